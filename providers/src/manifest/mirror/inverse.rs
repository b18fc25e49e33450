//! Requests read back: what stood under each name of a template, when the template gave this text or this body.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::manifest::plan::Request;
use crate::manifest::pointer::text;
use crate::manifest::template::{Body, Part, Template};

/// What stood under each name.
pub(super) type Named = BTreeMap<String, String>;

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Caught {
    /// Outside of `each`, or all where there is none.
    pub(super) named: Named,
    /// Of each element of `each`.
    pub(super) each: Vec<Caught>,
    /// The list that `each-value` stands in: every element, and what is named in those that can be new ones.
    pub(super) values: Option<Vec<(Value, Option<Named>)>>,
}

/// A request as it came in: without what belongs to the credential.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) method: reqwest::Method,
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Value,
}

/// What `incoming` says, if it can be a `request`; `known` has the settings. `extra` is a key that its body may have
/// besides.
pub(super) fn caught(
    request: &Request,
    incoming: &Incoming,
    known: &Named,
    extra: Option<&str>,
) -> Option<Caught> {
    if request.method != incoming.method || request.path.len() != incoming.path.len() {
        return None;
    }
    let mut caught = Caught::default();
    for (template, segment) in request.path.iter().zip(&incoming.path) {
        invert(&template.0, segment, known, &mut caught.named).then_some(())?;
    }
    for (key, template) in &request.query {
        let (_, value) = incoming.query.iter().find(|it| it.0 == *key)?;
        invert(&template.0, value, known, &mut caught.named).then_some(())?;
    }
    let mut body = incoming.body.clone();
    if let (Value::Object(object), Some(extra)) = (&mut body, extra) {
        object.remove(extra);
    }
    match &request.body {
        Some(template) => body_of(template, &body, known, &mut caught).then_some(caught),
        None => {
            let is_empty =
                body.is_null() || body.as_object().is_some_and(serde_json::Map::is_empty);
            is_empty.then_some(caught)
        }
    }
}

/// How much of a request's path is fixed: of two that fit, the one with more of it is meant.
pub(super) fn fixed(request: &Request) -> usize {
    request
        .path
        .iter()
        .filter(|it| it.names().next().is_none())
        .count()
}

/// Whether `parts` can have given `text`; then `found` has what stood under their names.
fn invert(parts: &[Part], text: &str, known: &Named, found: &mut Named) -> bool {
    match parts {
        [] => text.is_empty(),
        [Part::Text(fixed), rest @ ..] => {
            (text.strip_prefix(fixed.as_str())).is_some_and(|left| invert(rest, left, known, found))
        }
        [Part::Named(name), rest @ ..] => {
            if let Some(value) = known.get(name).or_else(|| found.get(name)).cloned() {
                let left = text.strip_prefix(value.as_str());
                return left.is_some_and(|left| invert(rest, left, known, found));
            }
            let ends = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
            // Where nothing follows, all of it.
            let ends: Vec<usize> = match rest {
                [] => vec![text.len()],
                _ => ends.collect(),
            };
            ends.into_iter().any(|end| {
                let mut tried = found.clone();
                tried.insert(name.clone(), text[..end].to_owned());
                let fits = invert(rest, &text[end..], known, &mut tried);
                if fits {
                    *found = tried;
                }
                fits
            })
        }
    }
}

fn body_of(template: &Body, body: &Value, known: &Named, caught: &mut Caught) -> bool {
    match template {
        Body::Fixed(fixed) => fixed == body,
        Body::Text(template) => text_of(template, body, known, &mut caught.named),
        Body::Object(wanted) => {
            let Value::Object(object) = body else {
                return false;
            };
            let all = |(key, template): &(String, Body)| {
                let value = object.get(key);
                value.is_some_and(|value| body_of(template, value, known, caught))
            };
            object.len() == wanted.len() && wanted.iter().all(all)
        }
        Body::List(wanted) => {
            let Value::Array(list) = body else {
                return false;
            };
            match &wanted[..] {
                [Body::Each(inner)] => list.iter().all(|element| {
                    let mut one = Caught::default();
                    let fits = body_of(inner, element, known, &mut one);
                    caught.each.push(one);
                    fits
                }),
                [Body::EachValue(inner)] => {
                    let values = list.iter().map(|element| {
                        let mut one = Caught::default();
                        let fits = body_of(inner, element, known, &mut one);
                        (element.clone(), fits.then_some(one.named))
                    });
                    caught.values = Some(values.collect());
                    true
                }
                _ => {
                    list.len() == wanted.len()
                        && (wanted.iter().zip(list))
                            .all(|(template, element)| body_of(template, element, known, caught))
                }
            }
        }
        // They stand in lists only.
        Body::Each(_) | Body::EachValue(_) => false,
    }
}

fn text_of(template: &Template, body: &Value, known: &Named, found: &mut Named) -> bool {
    match (&template.0[..], body) {
        (_, Value::String(text)) => invert(&template.0, text, known, found),
        // A name that stands alone may be a number, or null for the host's own choice.
        ([Part::Named(_)], Value::Null) => true,
        ([Part::Named(name)], number) => match text(number) {
            Some(number) => found.insert(name.clone(), number).is_none(),
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(pairs: &[(&str, &str)]) -> Named {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn inverted(template: &str, text: &str) -> Option<Named> {
        let template = Template::parse(template).unwrap();
        let known = named(&[("view", "public")]);
        let mut found = Named::new();
        invert(&template.0, text, &known, &mut found).then_some(found)
    }

    #[test]
    fn a_text_is_read_back_by_its_template() {
        assert_eq!(inverted("{name}.", "a.b."), Some(named(&[("name", "a.b")])));
        assert_eq!(inverted("{name}.", "a.b"), None);
        assert_eq!(inverted("/{view}/x", "/public/x"), Some(Named::new()));
        assert_eq!(inverted("/{view}/x", "/internal/x"), None);
        let both = named(&[("label", "a"), ("zone", "b.test")]);
        assert_eq!(inverted("{label}@{zone}", "a@b.test"), Some(both));
        assert_eq!(
            inverted("{label}-{label}", "a-a"),
            Some(named(&[("label", "a")]))
        );
        assert_eq!(inverted("{label}-{label}", "a-b"), None);
    }

    #[test]
    fn a_body_is_read_back_with_its_lists() {
        let template = json!({"rrsets": [{"each": {"name": "{name}.", "ttl": "{ttl}", "records": [{"each-value": {"content": "{quoted-value}"}}]}}]});
        let template = Body::parse(template).unwrap();
        let body = json!({"rrsets": [{"name": "a.test.", "ttl": 60, "records": [{"content": "\"new\""}, {"old": 1}]}]});
        let mut caught = Caught::default();
        assert!(body_of(&template, &body, &Named::new(), &mut caught));
        let one = &caught.each[0];
        assert_eq!(one.named, named(&[("name", "a.test"), ("ttl", "60")]));
        let values = one.values.clone().unwrap();
        assert_eq!(values[0].1, Some(named(&[("quoted-value", "\"new\"")])));
        assert_eq!(values[1], (json!({"old": 1}), None));
        let more = json!({"rrsets": [], "more": 1});
        assert!(!body_of(
            &template,
            &more,
            &Named::new(),
            &mut Caught::default()
        ));
    }
}
