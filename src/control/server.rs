//! The server's side: bound when the store is held, gone when the process is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::protocol::{Ask, LONGEST_REQUEST, Reply, Request, VERSION};
use super::seats::{Guest, Seat, Seats};
use super::socket;
use crate::engine::names::CertificateName;
use crate::run::accounts;
use crate::run::clean;
use crate::run::journal;
use crate::run::overview::Overview;
use crate::run::progress::Progress;
use crate::run::scheduler::{Order, Selection};
use crate::run::shared::{Notices, Shared};
use crate::supervise;

/// How long a request may take to arrive, and one line of a reply to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the system refused a connection: for free descriptors, never in a busy loop.
const BACK_OFF: Duration = Duration::from_millis(100);

/// `status` tells of a want of descriptors for so long after it: a person comes later.
const REMEMBERED: Duration = Duration::from_secs(600);
/// A notice about descriptors.
const DESCRIPTORS: &str = "descriptors";

/// What is behind the socket; cheap to clone.
#[derive(Clone)]
pub struct Served {
    /// What all workers share, as it is configured now.
    pub shared: watch::Receiver<Arc<Shared>>,
    /// Where work is asked for; nowhere when the process does one thing and ends.
    pub orders: Option<mpsc::Sender<Order>>,
}

/// The socket being served; it is gone when dropped.
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Takes the socket of the state directory, which is locked for this process: what lies there is of a dead one.
    pub fn start(state: &Path, served: Served) -> io::Result<Self> {
        let path = socket(state);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
        let mut door = Door::new(listener, served);
        let task = tokio::spawn(async move {
            while supervise::fell_over("the control socket", door.serve()).await {
                door.clock.sleep(BACK_OFF).await;
            }
        });
        Ok(Self { path, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Whoever finds it still there finds nobody behind it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Lets guests in.
struct Door {
    listener: UnixListener,
    seats: Seats,
    /// Given up when there is no other descriptor, so that somebody can still be told so.
    spare: Option<File>,
    /// When there was none, last.
    complained: Option<Duration>,
    served: Served,
    clock: Clock,
}

impl Door {
    fn new(listener: UnixListener, served: Served) -> Self {
        let clock = served.shared.borrow().clock.clone();
        Self {
            listener,
            seats: Seats::default(),
            spare: None,
            complained: None,
            served,
            clock,
        }
    }

    async fn serve(&mut self) {
        self.keep_a_spare();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.admit(stream);
                    self.keep_a_spare();
                }
                Err(error) => {
                    tracing::debug!("control: {error}");
                    if is_out_of_descriptors(&error) {
                        self.complain(&error);
                        if self.spare.take().is_some() {
                            continue;
                        }
                        self.seats.make_room();
                    }
                    self.clock.sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn keep_a_spare(&mut self) {
        let is_over = |at: Duration| self.clock.elapsed() - at > REMEMBERED;
        if self.complained.is_some_and(is_over) {
            self.complained = None;
            self.notices().set(DESCRIPTORS, None);
        }
        if self.spare.is_some() {
            return;
        }
        match File::open("/dev/null") {
            Ok(spare) => {
                self.spare = Some(spare);
            }
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &io::Error) {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or("no limit".to_owned(), |limit| limit.to_string());
        let at = self.served.shared.borrow().clock.now();
        let sentence = format!(
            "file descriptors were used up at {at:.0} (the limit is {limit}): connections fail until some are free; raise LimitNOFILE= or `ulimit -n`"
        );
        if self.complained.is_none() {
            tracing::warn!("{sentence}: {error}");
        }
        self.complained = Some(self.clock.elapsed());
        self.notices().set(DESCRIPTORS, Some(sentence));
    }

    fn notices(&self) -> Notices {
        self.served.shared.borrow().notices.clone()
    }

    fn admit(&self, stream: UnixStream) {
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        let own = rustix::process::geteuid().as_raw();
        let guest = Guest {
            uid,
            is_trusted: uid.is_some_and(|uid| uid == 0 || uid == own),
        };
        let Some(seat) = self.seats.take(guest, self.clock.elapsed()) else {
            tracing::debug!(?uid, "control: no seat is free");
            return;
        };
        let lost = seat.leave.clone();
        let connection = Connection::new(stream, seat, self.served.clone(), self.clock.clone());
        tokio::spawn(async move {
            tokio::select! {
                // Whoever asked has gone.
                _ = connection.serve() => {}
                () = lost.cancelled() => tracing::debug!(?uid, "control: somebody else needed the seat"),
            }
        });
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|it| code == Some(it.raw_os_error()))
}

struct Connection {
    reader: BufReader<tokio::io::Take<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    seat: Seat,
    served: Served,
    clock: Clock,
}

impl Connection {
    fn new(stream: UnixStream, seat: Seat, served: Served, clock: Clock) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::new(reader.take(LONGEST_REQUEST)),
            writer,
            seat,
            served,
            clock,
        }
    }

    /// One request after the other until the client hangs up.
    async fn serve(mut self) -> io::Result<()> {
        loop {
            let mut line = Vec::new();
            self.reader.get_mut().set_limit(LONGEST_REQUEST);
            self.seat.waits(self.clock.elapsed());
            let read = self.reader.read_until(b'\n', &mut line);
            match self.clock.timeout(PATIENCE, read).await {
                Some(read) => read?,
                None => return Ok(()),
            };
            self.seat.works();
            if line.is_empty() {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                return self.refuse("this is no request of at most 1 MiB").await;
            }
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) if request.version == VERSION => self.answer(request.ask).await?,
                Ok(request) => {
                    let sentence = format!(
                        "it speaks version {VERSION} of the protocol, and not {}: use the program of the same release",
                        request.version
                    );
                    return self.refuse(&sentence).await;
                }
                Err(error) => {
                    return self.refuse(&format!("this is no request: {error}")).await;
                }
            }
        }
    }

    async fn answer(&mut self, ask: Ask) -> io::Result<()> {
        let shared = Arc::clone(&self.served.shared.borrow());
        match ask {
            Ask::Status => self.status(&shared).await,
            Ask::History(name) => match journal::history(&shared.session, &name).await {
                Ok(lines) => self.say(&Reply::History(lines)).await,
                Err(error) => self.refuse(&error.to_string()).await,
            },
            Ask::Accounts => {
                let authorities = &shared.config.authorities;
                match accounts::registered(&shared.session, authorities).await {
                    Ok(accounts) => self.say(&Reply::Accounts(accounts)).await,
                    Err(error) => self.refuse(&error.to_string()).await,
                }
            }
            Ask::Renew { .. } if !self.seat.guest.is_trusted => {
                self.refuse("only root and the user that it runs as may ask for a renewal")
                    .await
            }
            Ask::Renew { names, force } => {
                let selection = Selection {
                    only: names.into_iter().collect(),
                    force,
                    ignore_back_off: true,
                };
                self.renew(&shared, selection).await
            }
            Ask::Clean { .. } if !self.seat.guest.is_trusted => {
                self.refuse("only root and the user that it runs as may ask for a clean-up")
                    .await
            }
            Ask::Clean { names, foreign } => {
                let selection = clean::Selection {
                    only: names.into_iter().collect(),
                    foreign: foreign.into_iter().collect(),
                };
                self.clean(&shared, selection).await
            }
        }
    }

    async fn status(&mut self, shared: &Shared) -> io::Result<()> {
        let now = shared.clock.now();
        let at_work = shared.watchers.at_work();
        let session = Some(&shared.session);
        match Overview::gather(&shared.config, session, now, &at_work).await {
            Ok(mut overview) => {
                overview.notices = shared.notices();
                overview.by_itself = self.served.orders.is_some();
                self.say(&Reply::Overview(Box::new(overview))).await
            }
            Err(error) => self.refuse(&error.to_string()).await,
        }
    }

    /// Has it done, and tells how it goes. Whoever goes away is not waited for: the work goes on.
    async fn renew(&mut self, shared: &Shared, selection: Selection) -> io::Result<()> {
        if let Some(sentence) = unknown(shared, &selection.only) {
            return self.refuse(&sentence).await;
        }
        let Some(orders) = self.served.orders.clone() else {
            let sentence = format!(
                "it is a `renew` at work, process {}; wait until it ends, or stop it",
                std::process::id()
            );
            return self.refuse(&sentence).await;
        };
        // Before the work begins, so that nothing of it is missed.
        let mut told = shared.watchers.listen();
        let (reply, begun) = oneshot::channel();
        let sent = orders.send(Order::Renew { selection, reply }).await;
        let (Ok(()), Ok(begun)) = (sent, begun.await) else {
            return self.refuse("it is stopping").await;
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => return self.refuse(&error.to_string()).await,
        };
        let mut left: BTreeSet<_> = begun.iter().cloned().collect();
        self.say(&Reply::Begun(begun)).await?;
        while !left.is_empty() {
            let gone = async {
                self.reader
                    .fill_buf()
                    .await
                    .is_ok_and(|read| !read.is_empty())
            };
            let told = tokio::select! {
                told = told.recv() => told,
                // Whoever asked has hung up, or talks out of turn.
                _ = gone => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            let Some((name, progress)) = told else {
                return self.refuse("it is stopping; the next start goes on").await;
            };
            if !left.contains(&name) {
                continue;
            }
            if matches!(progress, Progress::Finished(_)) {
                left.remove(&name);
            }
            self.say(&Reply::Progress(name, progress)).await?;
        }
        Ok(())
    }

    async fn clean(&mut self, shared: &Shared, selection: clean::Selection) -> io::Result<()> {
        if let Some(sentence) = unknown(shared, &selection.only) {
            return self.refuse(&sentence).await;
        }
        // It may take longer than anybody waits for a first word.
        let begun = selection.only.iter().cloned().collect();
        self.say(&Reply::Begun(begun)).await?;
        shared.look_anew();
        match clean::clean(shared, &selection, clean::Orders::Run).await {
            Ok(cleaned) => self.say(&Reply::Cleaned(Box::new(cleaned))).await,
            Err(error) => self.refuse(&error.to_string()).await,
        }
    }

    async fn refuse(&mut self, sentence: &str) -> io::Result<()> {
        self.say(&Reply::Refused(sentence.to_owned())).await
    }

    async fn say(&mut self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.seat.waits(self.clock.elapsed());
        let write = self.writer.write_all(&line);
        let written = self.clock.timeout(PATIENCE, write).await;
        self.seat.works();
        written.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Says which of `names` is not configured.
fn unknown(shared: &Shared, names: &BTreeSet<CertificateName>) -> Option<String> {
    let mut names = names.iter();
    let unknown = names.find(|name| !shared.certificates.contains_key(*name))?;
    Some(format!(
        "it has no certificate `{unknown}`; reload it if that is a new one"
    ))
}
