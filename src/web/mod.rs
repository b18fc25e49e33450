//! Health and metrics over HTTP.
//!
//! `/health` says that the process lives, `/health/ready` whether all is well ([`ready`] says what that is), `/metrics`
//! is for Prometheus ([`metrics`]). Nobody is asked who they are, so a request is answered only when it calls this
//! server by a name of its own ([`host`]). Whatever is asked, the daemon's own work goes on beside it: what is looked
//! at is made once for all who ask at the same time ([`recent`]), and connections are few, small and short ([`server`]).

mod host;
mod metrics;
mod ready;
mod recent;
mod server;
mod text;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use countersign_providers::clock::Clock;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::run::heartbeat::Heartbeat;
use crate::run::shared::Shared;
use ready::Readiness;
use recent::Recent;

pub use server::{Server, WebError};

/// Health and metrics are made anew when they are older.
const FRESH_READINESS: Duration = Duration::from_secs(3);
const FRESH_METRICS: Duration = Duration::from_secs(1);
/// Prometheus's text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is behind the paths; cheap to clone.
#[derive(Clone)]
pub struct Served {
    shared: watch::Receiver<Arc<Shared>>,
    heartbeat: Heartbeat,
    clock: Clock,
    since: Timestamp,
    readiness: Recent<Arc<Readiness>>,
    metrics: Recent<Option<axum::body::Bytes>>,
}

impl Served {
    /// What there is to be seen of the daemon.
    pub fn new(shared: watch::Receiver<Arc<Shared>>, heartbeat: Heartbeat) -> Self {
        let clock = shared.borrow().clock.clone();
        Self {
            shared,
            heartbeat,
            since: clock.now(),
            readiness: Recent::new(FRESH_READINESS, clock.clone()),
            metrics: Recent::new(FRESH_METRICS, clock.clone()),
            clock,
        }
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared.borrow())
    }

    async fn readiness(&self) -> Arc<Readiness> {
        let (shared, heartbeat) = (self.shared(), self.heartbeat.clone());
        let look = async move { Arc::new(Readiness::look(&shared, &heartbeat).await) };
        let cut_short = || Arc::new(Readiness::unknown());
        self.readiness.get(look).await.unwrap_or_else(cut_short)
    }

    async fn metrics(&self) -> Option<axum::body::Bytes> {
        let served = self.clone();
        let text = async move {
            let readiness = served.readiness().await;
            // It computes for a while, so not where everybody else works.
            let made = tokio::task::spawn_blocking(move || {
                let text = metrics::text(&served, &readiness);
                tokio::runtime::Handle::current().block_on(text)
            });
            made.await.ok()?.map(axum::body::Bytes::from)
        };
        self.metrics.get(text).await.flatten()
    }
}

/// Which path is answered by what.
fn routes(served: Served) -> Router {
    Router::new()
        .route("/health", get(alive))
        .route("/health/ready", get(is_ready))
        .route("/metrics", get(all_metrics))
        .fallback(nothing)
        .with_state(served)
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn is_ready(State(served): State<Served>) -> Response {
    let readiness = served.readiness().await;
    let reasons = readiness.reasons();
    match reasons.is_empty() {
        true => "ready\n".into_response(),
        false => {
            let body = reasons.join("\n") + "\n";
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn all_metrics(State(served): State<Served>) -> Response {
    match served.metrics().await {
        Some(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        None => {
            let sentence = "the metrics cannot be gathered; the log says why\n";
            (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
        }
    }
}

async fn nothing() -> (StatusCode, &'static str) {
    let sentence = "there is nothing here; there are /health, /health/ready and /metrics\n";
    (StatusCode::NOT_FOUND, sentence)
}
