//! Stand-ins for clouds whose plug-ins are code. What each API is like is in a file of its own, from the vendor's
//! documentation; here is what they share: calls by name, and what goes wrong with them.

pub mod azuredns;
pub mod googlecloud;
pub mod ovh;

use std::sync::{Arc, Mutex, MutexGuard};

use super::rest::{Answer, Ask, Raw};

/// An API with what it has stored.
pub trait Api: Send + 'static {
    /// The name of a call.
    fn call(ask: &Ask) -> &'static str;
    /// The reply to it.
    fn answer(&mut self, ask: &Ask) -> Answer;
}

/// What happens to a call.
pub enum Fate<A> {
    /// It is not done, and answered so.
    Reply(Answer),
    /// It is done, and answered so.
    Done(Answer),
    /// Somebody else is faster.
    Meanwhile(Box<dyn FnOnce(&mut A) + Send>),
}

/// A running stand-in; it ends with the runtime.
pub struct Fake<A> {
    raw: Raw,
    shared: Arc<Mutex<Shared<A>>>,
}

struct Shared<A> {
    api: A,
    calls: Vec<&'static str>,
    fates: Vec<(&'static str, Fate<A>)>,
    always: Option<Answer>,
}

impl<A: Api> Fake<A> {
    /// Starts one whose paths begin with `base`.
    pub async fn start(base: &'static str, api: A) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            api,
            calls: Vec::new(),
            fates: Vec::new(),
            always: None,
        }));
        let all = Arc::clone(&shared);
        let raw = Raw::start(base, move |ask| {
            let mut shared = all.lock().expect("nothing panics with it");
            shared.answer(ask)
        });
        let raw = raw.await;
        Self { raw, shared }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.raw.endpoint()
    }

    /// Its address and port.
    pub fn host(&self) -> String {
        self.raw.host()
    }

    /// What it has, while nothing else can change it.
    pub fn with<T>(&self, look: impl FnOnce(&mut A) -> T) -> T {
        look(&mut self.lock().api)
    }

    /// The calls since the last look, those of one name in a row counted.
    pub fn calls(&self) -> String {
        let calls = std::mem::take(&mut self.lock().calls);
        let mut counted: Vec<(&str, usize)> = Vec::new();
        for call in calls {
            match counted.last_mut() {
                Some((last, count)) if *last == call => *count += 1,
                _ => counted.push((call, 1)),
            }
        }
        let shown = counted.iter().map(|(call, count)| match count {
            1 => (*call).to_owned(),
            count => format!("{count} {call}"),
        });
        shown.collect::<Vec<String>>().join(", ")
    }

    /// How many calls there were since the last look.
    pub fn count(&self) -> usize {
        std::mem::take(&mut self.lock().calls).len()
    }

    /// This happens to the next call of a name that nothing else happens to.
    pub fn fate(&self, call: &'static str, fate: Fate<A>) {
        self.lock().fates.push((call, fate));
    }

    /// From now on it answers so, whatever it is asked but for tokens; or as it should again.
    pub fn always(&self, answer: Option<Answer>) {
        self.lock().always = answer;
    }

    fn lock(&self) -> MutexGuard<'_, Shared<A>> {
        self.shared.lock().expect("nothing panics with it")
    }
}

impl<A: Api> Shared<A> {
    fn answer(&mut self, ask: &Ask) -> Answer {
        let call = A::call(ask);
        self.calls.push(call);
        let fate = self.fates.iter().position(|(name, _)| *name == call);
        match fate.map(|at| self.fates.remove(at).1) {
            Some(Fate::Reply(answer)) => return answer,
            Some(Fate::Done(answer)) => {
                self.api.answer(ask);
                return answer;
            }
            Some(Fate::Meanwhile(act)) => act(&mut self.api),
            None => {}
        }
        match &self.always {
            Some(answer) if call != "token" => answer.clone(),
            _ => self.api.answer(ask),
        }
    }
}
