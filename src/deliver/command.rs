//! Runs a command, such as the one that makes a server take new files up.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use countersign_providers::child::{self, Finished, Unfinished, ending};

use crate::clock::Clock;

pub use countersign_providers::child::Given;

/// How long a reload may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Why a command did not do what it should. The program is named, its arguments are not.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error(
        "the command {program} could not be started: {error}; check its path and who may run it"
    )]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It ended badly.
    #[error("the command {program} ended with {}{}", ending(*.status), said(.output))]
    Failed {
        /// The program.
        program: String,
        /// How.
        status: ExitStatus,
        /// The end of its error output, made harmless.
        output: String,
    },
    /// It did not end.
    #[error("the command {program} had not ended after {} s and was killed{}", .deadline.as_secs(), said(.output))]
    TooSlow {
        /// The program.
        program: String,
        /// How long it had.
        deadline: Duration,
        /// The end of its error output, made harmless.
        output: String,
    },
}

/// Runs `argv` and waits for its end, at most until `deadline` is over.
pub async fn run(argv: &[String], clock: &Clock, deadline: Duration) -> Result<(), CommandError> {
    run_with(argv, &Given::default(), clock, deadline).await
}

/// The same with something given to it.
pub async fn run_with(
    argv: &[String],
    given: &Given<'_>,
    clock: &Clock,
    deadline: Duration,
) -> Result<(), CommandError> {
    let program = argv.first().cloned().unwrap_or_default();
    match child::run(argv, given, 0, clock, deadline).await {
        Ok(Finished { status, .. }) if status.success() => Ok(()),
        Ok(Finished { status, stderr, .. }) => Err(CommandError::Failed {
            program,
            status,
            output: stderr,
        }),
        Err(Unfinished::NotStarted(error)) => Err(CommandError::NotStarted { program, error }),
        Err(Unfinished::TooSlow(output)) => Err(CommandError::TooSlow {
            program,
            deadline,
            output,
        }),
    }
}

fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(": {output}")
    }
}

#[cfg(test)]
mod tests {
    use countersign_providers::child::{KEPT_OUTPUT, is_gone};

    use super::*;

    async fn sh(script: &str) -> Result<(), CommandError> {
        run(&argv(&["sh", "-c", script]), &Clock::system(), DEADLINE).await
    }

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[tokio::test]
    async fn says_how_it_ended_and_what_it_said_last() {
        sh("true").await.unwrap();
        let error = sh(r"printf 'no\nsuch \033[31munit\342\200\256' >&2; exit 3").await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "the command sh ended with exit status 3: no such [31munit"
        );
    }

    #[tokio::test]
    async fn arguments_are_not_interpreted() {
        let argv = argv(&["test", "$(id);`id` *", "=", "$(id);`id` *"]);
        run(&argv, &Clock::system(), DEADLINE).await.unwrap();
    }

    #[tokio::test]
    async fn gets_nothing_of_our_environment_but_three() {
        // Cargo sets many for its tests; a shell adds PWD, OLDPWD, SHLVL and _ of its own.
        sh("! env | grep -Ev '^(PATH|HOME|LANG|PWD|OLDPWD|SHLVL|_)=' >&2")
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn gets_what_it_is_given_and_need_not_read_it() {
        let environment = [("COUNTERSIGN_EVENT", "$(id)".to_owned())];
        let input = vec![b'x'; 1 << 20];
        let given = Given {
            environment: &environment,
            input: &input,
        };
        let reads = r#"test "$COUNTERSIGN_EVENT" = '$(id)' && test "$(wc -c)" -eq 1048576"#;
        for script in [reads, "true"] {
            let argv = argv(&["sh", "-c", script]);
            let clock = Clock::system();
            run_with(&argv, &given, &clock, DEADLINE).await.unwrap();
        }
    }

    #[tokio::test]
    async fn much_output_neither_blocks_nor_fills_memory() {
        let error = sh("head -c 3000000 /dev/zero | tr '\\0' x | tee /dev/stderr; exit 1").await;
        let Err(CommandError::Failed { output, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(output.len(), KEPT_OUTPUT);
    }

    #[tokio::test]
    async fn an_absent_or_empty_command_is_named() {
        let error = run(&argv(&["/no/such"]), &Clock::system(), DEADLINE).await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/no/such could not be started")
        );
        assert!(run(&[], &Clock::system(), DEADLINE).await.is_err());
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {}; wait", pids.display());
        let error = run(
            &argv(&["sh", "-c", &script]),
            &Clock::system(),
            Duration::from_millis(500),
        )
        .await;
        assert!(matches!(error, Err(CommandError::TooSlow { .. })));
        for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
            assert!(is_gone(pid).await, "{pid} lives");
        }
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_does_not_hold_us_up() {
        let clock = Clock::system();
        sh("sleep 20 &").await.unwrap();
        assert!(clock.elapsed() < Duration::from_secs(10));
    }
}
