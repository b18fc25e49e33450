//! How many calls a hundred names of one zone take, tokens and the like not left out.

use countersign_providers::Provider;
use countersign_providers::contract::{Fixture, absent, ensure};
use countersign_providers::record::{Change, RrSet};

use super::{VALUE, azuredns, context, googlecloud, hundred, ovh};
use crate::support::clouds::{Api, Fake};
use crate::support::golden::{golden, root};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_names_take_no_more_calls_than_written_here() {
    let azure = azuredns::Bench::new().await;
    let google = googlecloud::Bench::new().await;
    let ovh = ovh::Bench::new().await;
    let rows = [
        row("azuredns", &azure.plugin, &azure, &azure.fake).await,
        row("googlecloud", &google.plugin, &google, &google.fake).await,
        row("ovh", &ovh.plugin, &ovh, &ovh.fake).await,
    ];
    golden(
        &root().join("tests/errors/clouds-calls.txt"),
        &rows.concat(),
    );
}

/// As the core presents and cleans: in batches, with what it left there and what that is called.
async fn row<A: Api>(
    name: &str,
    plugin: &dyn Provider,
    fixture: &dyn Fixture,
    fake: &Fake<A>,
) -> String {
    let (zone, context, batch) = (fixture.zone(), context(), plugin.traits().batch);
    let mut handles = Vec::new();
    for changes in hundred(ensure).chunks(batch) {
        let receipt = plugin.apply(&zone, changes, &[], &context).await.unwrap();
        handles.extend(receipt.handles);
    }
    let present = fake.count();
    handles.resize(100, None);
    let gone = hundred(absent).into_iter().zip(handles);
    let gone: Vec<Change> = gone
        .map(|(change, handle)| Change { handle, ..change })
        .collect();
    for changes in gone.chunks(batch) {
        let believed = changes.iter().map(|change| RrSet {
            name: change.name.clone(),
            ttl: Some(60),
            values: vec![VALUE.to_owned()],
        });
        let believed: Vec<RrSet> = believed.collect();
        plugin
            .apply(&zone, changes, &believed, &context)
            .await
            .unwrap();
    }
    format!("{name:<13}{present:>5}{:>5}\n", fake.count())
}
