//! Cases about the protocol of plug-ins that are programs (`providers/PROTOCOL.md`), held line by line.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::process::Descriptor;
use crate::record::DnsName;

use super::bench::{Bench, Stop, failed};
use super::program::Program;
use super::talk::Talk;
use super::told::{absent, ensure};
use super::{Case, Needs, Verdict};

const GROUP: &str = "protocol";

pub(super) static CASES: [Case; 18] = [
    Case::new(
        GROUP,
        "initialize",
        Needs::Nothing,
        "`initialize` is answered with version 1 and what the plug-in is",
        |it| initialized(it).boxed(),
    ),
    Case::new(
        GROUP,
        "version-wider",
        Needs::Nothing,
        "of a wider range of versions it speaks the one that it knows",
        |it| wider(it).boxed(),
    ),
    Case::new(
        GROUP,
        "version-none",
        Needs::Nothing,
        "of versions that it does not know it speaks none: it says its own, or unsupported",
        |it| none(it).boxed(),
    ),
    Case::new(
        GROUP,
        "unknown-field",
        Needs::Nothing,
        "fields that it does not know are ignored",
        |it| field(it).boxed(),
    ),
    Case::new(
        GROUP,
        "unknown-method",
        Needs::Nothing,
        "a method that it does not know is answered with -32601, and it goes on",
        |it| method(it).boxed(),
    ),
    Case::new(
        GROUP,
        "unknown-notification",
        Needs::Nothing,
        "a notification that it does not know is not answered",
        |it| notification(it).boxed(),
    ),
    Case::new(
        GROUP,
        "id-echoed",
        Needs::Nothing,
        "the number of a request comes back as it went, also a large one",
        |it| echoed(it).boxed(),
    ),
    Case::new(
        GROUP,
        "pipelined",
        Needs::Nothing,
        "of many requests at once each is answered once, in any order",
        |it| pipelined(it).boxed(),
    ),
    Case::new(
        GROUP,
        "cancelled",
        Needs::Nothing,
        "a request that is cancelled is answered once all the same",
        |it| cancelled(it).boxed(),
    ),
    Case::new(
        GROUP,
        "cancel-strange",
        Needs::Nothing,
        "the cancel of a request that is not open is ignored",
        |it| cancel_strange(it).boxed(),
    ),
    Case::new(
        GROUP,
        "long-line",
        Needs::Nothing,
        "a line of almost 1 MiB is read",
        |it| long(it).boxed(),
    ),
    Case::new(
        GROUP,
        "json-forms",
        Needs::Nothing,
        "blanks and escapes are read as JSON has them",
        |it| forms(it).boxed(),
    ),
    Case::new(
        GROUP,
        "refusal-form",
        Needs::Zone,
        "a change outside of the zone is refused with a kind of the protocol",
        |it| refusal(it).boxed(),
    ),
    Case::new(
        GROUP,
        "only-messages",
        Needs::Nothing,
        "nothing but messages is on its standard output, to its end",
        |it| only(it).boxed(),
    ),
    Case::new(
        GROUP,
        "shutdown",
        Needs::Nothing,
        "it ends after `shutdown`",
        |it| shutdown(it).boxed(),
    ),
    Case::new(
        GROUP,
        "input-closed",
        Needs::Nothing,
        "it ends when its standard input ends",
        |it| closed(it).boxed(),
    ),
    Case::new(
        GROUP,
        "input-cut",
        Needs::Nothing,
        "it ends when its standard input ends in the middle of a line",
        |it| cut(it).boxed(),
    ),
    Case::new(
        GROUP,
        "killed-midway",
        Needs::Values,
        "after it was killed with a change under way, the same change again leaves one value",
        |it| killed(it).boxed(),
    ),
];

/// It has so long to end by itself; Countersign gives it less.
const TO_END: Duration = Duration::from_secs(5);
/// The largest whole number that every JSON reader knows (RFC 8259 section 6).
const LARGE: u64 = (1 << 53) - 1;
/// A line of almost 1 MiB.
const LONG: usize = 1_000_000;
const NO_METHOD: i64 = -32601;
const MODELS: [&str; 5] = ["value", "set-with-proof", "set", "zone", "slots"];
const KINDS: [&str; 11] = [
    "auth",
    "permission",
    "zone-missing",
    "zone-ambiguous",
    "conflict",
    "rate-limited",
    "quota",
    "invalid",
    "transient",
    "unsupported",
    "fatal",
];

fn program<'b>(bench: &'b Bench<'_>) -> Result<&'b Program, Stop> {
    let none = || Stop::skipped("it is no program");
    bench.world.program().ok_or_else(none)
}

async fn begin(bench: &Bench<'_>) -> Result<Talk, Stop> {
    Talk::begin(program(bench)?).await
}

async fn initialized(bench: &Bench<'_>) -> Verdict {
    let program = program(bench)?;
    let mut talk = Talk::start(program)?;
    let answer = talk.initialize(program, 1, 1).await?;
    let result = &answer["result"];
    let model = result["model"].as_str().unwrap_or_default();
    let is_said = result["protocol"] == json!(1)
        && result["name"].is_string()
        && result["version"].is_string()
        && MODELS.contains(&model);
    if !is_said {
        return failed(format!(
            "`initialize` is answered with {}",
            talk.shown(&answer)
        ));
    }
    match Descriptor::read(result.clone()) {
        Ok(_) => Ok(()),
        Err(what) => failed(format!(
            "it {}: {}",
            talk.hidden(&what),
            talk.shown(&answer)
        )),
    }
}

async fn wider(bench: &Bench<'_>) -> Verdict {
    let program = program(bench)?;
    let mut talk = Talk::start(program)?;
    let answer = talk.initialize(program, 1, 9).await?;
    match answer["result"]["protocol"].as_u64() {
        Some(1..=9) => Ok(()),
        _ => failed(format!(
            "versions 1 to 9 are answered with {}",
            talk.shown(&answer)
        )),
    }
}

async fn none(bench: &Bench<'_>) -> Verdict {
    let program = program(bench)?;
    let mut talk = Talk::start(program)?;
    let answer = talk.initialize(program, 1000, 1001).await?;
    let own = answer["result"]["protocol"].as_u64();
    let is_refused = answer["error"]["data"]["kind"] == "unsupported";
    match is_refused || own.is_some_and(|it| it < 1000) {
        true => Ok(()),
        false => failed(format!(
            "versions 1000 and 1001 are answered with {}",
            talk.shown(&answer)
        )),
    }
}

/// The answer to a request that every plug-in can answer.
async fn lives(talk: &mut Talk) -> Verdict {
    let answer = talk
        .ask(
            "zones",
            json!({"name": "_acme-challenge.nobody-has-this.invalid"}),
        )
        .await?;
    is_answer(talk, "zones", &answer)
}

fn is_answer(talk: &Talk, method: &str, answer: &Value) -> Verdict {
    match answer.get("result").is_some_and(Value::is_object) {
        true => Ok(()),
        false => failed(format!(
            "`{method}` is answered with {}",
            talk.shown(answer)
        )),
    }
}

async fn field(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let params =
        json!({"name": "_acme-challenge.nobody-has-this.invalid", "added-later": {"a": [1, null]}});
    let answer = talk.ask("zones", params).await?;
    is_answer(&talk, "zones", &answer)
}

async fn method(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let answer = talk.ask("added-later", json!({})).await?;
    if answer["error"]["code"].as_i64() != Some(NO_METHOD) {
        return failed(format!(
            "the method `added-later` is answered with {}",
            talk.shown(&answer)
        ));
    }
    lives(&mut talk).await
}

async fn notification(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    talk.notify("added-later", json!({"a": 1})).await?;
    lives(&mut talk).await
}

async fn echoed(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    for id in [7, 1_000_000_007, LARGE] {
        talk.request_as(id, "zones", json!({"name": "nobody-has-this.invalid"}))
            .await?;
        let answer = talk.answer().await?;
        if answer["id"] != json!(id) {
            return failed(format!(
                "request {id} is answered with {}",
                talk.shown(&answer)
            ));
        }
    }
    Ok(())
}

async fn pipelined(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let mut open = BTreeSet::new();
    for nth in 0..20 {
        let name = format!("n{nth}.nobody-has-this.invalid");
        open.insert(talk.request("zones", json!({"name": name})).await?);
    }
    while !open.is_empty() {
        let answer = talk.answer().await?;
        let id = answer["id"].as_u64();
        if !id.is_some_and(|id| open.remove(&id)) {
            return failed(format!(
                "of 20 requests at once one is answered with {}",
                talk.shown(&answer)
            ));
        }
    }
    // A second answer to one of them would come before this one's.
    lives(&mut talk).await
}

async fn cancelled(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let id = talk
        .request("zones", json!({"name": "nobody-has-this.invalid"}))
        .await?;
    talk.notify("cancel", json!({"id": id})).await?;
    let answer = talk.answer().await?;
    if answer["id"] != json!(id) {
        return failed(format!(
            "request {id} is answered with {}",
            talk.shown(&answer)
        ));
    }
    lives(&mut talk).await
}

async fn cancel_strange(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    talk.notify("cancel", json!({"id": 4711})).await?;
    lives(&mut talk).await
}

async fn long(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let params = json!({"name": "nobody-has-this.invalid", "added-later": "x".repeat(LONG)});
    let answer = talk.ask("zones", params).await?;
    is_answer(&talk, "zones", &answer)
}

async fn forms(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let line = r#"  { "params" : {"deadline_ms":15000 , "name":"nobody\u002dhas-this.invalid"}, "method":"zon\u0065s","id":41,"jsonrpc":"2.0" }  "#;
    talk.line(line).await?;
    let answer = talk.answer().await?;
    if answer["id"] != json!(41) {
        return failed(format!(
            "request 41 is answered with {}",
            talk.shown(&answer)
        ));
    }
    is_answer(&talk, "zones", &answer)
}

async fn refusal(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    let zone = bench.zone()?;
    let outside = DnsName::parse("_acme-challenge.nobody-has-this.invalid");
    let outside = outside.map_err(|error| Stop::skipped(error.to_string()))?;
    let change = |verb: &str| json!({"verb": verb, "name": outside, "value": "value", "ttl": 60});
    let params = |change: Value| json!({"zone": zone, "changes": [change], "believed": []});
    let answer = talk.ask("apply", params(change("ensure"))).await?;
    if let Some(result) = answer.get("result") {
        // It may have been written somewhere.
        let mut gone = change("absent");
        if let Some(handle) = result["handles"][0].as_str() {
            gone["handle"] = json!(handle);
        }
        talk.ask("apply", params(gone)).await?;
    }
    let error = &answer["error"];
    let kind = error["data"]["kind"].as_str().unwrap_or_default();
    let has_form = error["message"].is_string() && error["code"].is_i64() && KINDS.contains(&kind);
    match has_form {
        true => Ok(()),
        false => failed(format!(
            "a change at {outside} in the zone {} is answered with {}",
            zone.name,
            talk.shown(&answer)
        )),
    }
}

async fn only(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    lives(&mut talk).await?;
    talk.ask("added-later", json!({})).await?;
    lives(&mut talk).await?;
    talk.close();
    match talk.next().await? {
        None => Ok(()),
        Some(message) => failed(format!(
            "it says {} after its last answer",
            talk.shown(&message)
        )),
    }
}

async fn shutdown(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    talk.notify("shutdown", json!({})).await?;
    // Its standard input stays open: the end of that is a case of its own.
    ends(talk, "`shutdown`").await
}

async fn closed(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    talk.close();
    ends(talk, "the end of its standard input").await
}

async fn cut(bench: &Bench<'_>) -> Verdict {
    let mut talk = begin(bench).await?;
    talk.request("zones", json!({"name": "nobody-has-this.invalid"}))
        .await?;
    talk.cut("{\"jsonrpc\":\"2.0\",\"id\":99,\"meth").await?;
    ends(
        talk,
        "the end of its standard input in the middle of a line",
    )
    .await
}

async fn ends(mut talk: Talk, after: &str) -> Verdict {
    match talk.ends(TO_END).await? {
        true => Ok(()),
        false => failed(format!(
            "it still runs {} s after {after}",
            TO_END.as_secs()
        )),
    }
}

async fn killed(bench: &Bench<'_>) -> Verdict {
    let (zone, name) = (bench.zone()?, bench.name("killed-midway")?);
    let change = [ensure(&name, "value")];
    bench.note(&change);
    for _ in 0..5 {
        let mut talk = begin(bench).await?;
        let change = json!({"verb": "ensure", "name": name, "value": "value", "ttl": 60});
        talk.request(
            "apply",
            json!({"zone": zone, "changes": [change], "believed": []}),
        )
        .await?;
        // It is killed before it has answered, or a little later.
        drop(talk);
        bench.apply(&[ensure(&name, "value")]).await?;
        bench.serves(&name, &["value"], None).await?;
    }
    bench.apply(&[absent(&name, "value")]).await?;
    bench.serves(&name, &[], None).await
}
