//! The authority as a program, for tests that are not written in Rust.
//!
//! Prints one line of JSON once it serves, and ends when its standard input ends or on SIGTERM.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use countersign_testca::{Authority, Settings};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: countersign-testca --nameserver ADDRESS:PORT [--listen ADDRESS:PORT] [--lifetime SECONDS]
                          [--backdate SECONDS] [--retry-after SECONDS] [--processing-looks N]
                          [--nonce-reject PERCENT]

Prints {\"directory\", \"https_root_pem\", \"issuing_root_pem\"} as one line once it serves.
Ends when standard input ends.
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = match settings(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(trouble) => return fail(&format!("{trouble}\n{USAGE}"), 2),
    };
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => fail(&format!("{trouble}\n"), 1),
    }
}

async fn serve(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let authority = Authority::start(settings).await?;
    let ready = json!({
        "directory": authority.directory_url(),
        "https_root_pem": authority.https_root_pem(),
        "issuing_root_pem": authority.issuing_root_pem(),
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminated.recv() => {}
        () = end_of_input() => {}
    }
    authority.shutdown().await;
    Ok(())
}

async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 512];
    while input
        .read(&mut ignored)
        .await
        .is_ok_and(|length| length > 0)
    {}
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    // Port 0 answers nothing: it stands for a nameserver that was not given.
    let mut settings = Settings::asking(([0, 0, 0, 0], 0).into());
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name:?} needs a value, or is unknown"))?;
        let bad = |wanted: &str| format!("{name} is {value:?}, not {wanted}");
        let address = || value.parse().map_err(|_| bad("an address with a port"));
        let number = || value.parse::<u32>().map_err(|_| bad("a whole number"));
        let seconds = || number().map(|seconds| Duration::from_secs(seconds.into()));
        match name.as_str() {
            "--nameserver" => settings.nameserver = address()?,
            "--listen" => settings.listen = address()?,
            "--lifetime" => settings.lifetime = seconds()?,
            "--backdate" => settings.backdate = seconds()?,
            "--retry-after" => settings.retry_after = Some(seconds()?),
            "--processing-looks" => settings.processing_looks = number()?,
            "--nonce-reject" => {
                settings.nonce_reject_percent =
                    value.parse().map_err(|_| bad("a whole number up to 100"))?;
            }
            _ => return Err(format!("{name:?} is not known")),
        }
    }
    if settings.nameserver.port() == 0 {
        return Err("--nameserver is missing".to_owned());
    }
    Ok(settings)
}

fn fail(text: &str, code: u8) -> ExitCode {
    // Nothing is left to do if even this cannot be written.
    _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}
