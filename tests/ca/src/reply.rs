//! What a resource answers, before it becomes HTTP.

use std::time::Duration;

use hyper::body::Bytes;
use serde_json::Value;

use crate::problem::Problem;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) media_type: Option<&'static str>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn empty(status: u16) -> Reply {
        Reply {
            status,
            media_type: None,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn json(status: u16, document: &Value) -> Reply {
        Reply::text(status, "application/json", document.to_string())
    }

    pub(crate) fn text(status: u16, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply {
            status,
            media_type: Some(media_type),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Reply {
        self.headers.push((name, value));
        self
    }

    /// Whole seconds, rounded up.
    pub(crate) fn retry_after(self, wait: Option<Duration>) -> Reply {
        let Some(wait) = wait else { return self };
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with("retry-after", seconds.to_string())
    }
}

impl From<Problem> for Reply {
    fn from(mut problem: Problem) -> Reply {
        let document = problem.document().to_string();
        let mut reply = Reply::text(problem.status, "application/problem+json", document);
        reply.headers.extend(problem.take_header());
        reply.retry_after(problem.retry_after)
    }
}
