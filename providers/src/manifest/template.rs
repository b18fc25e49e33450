//! Texts with `{names}` in them, and what becomes of them. What is put in is escaped for where it stands, so that no
//! value of a name, a record or a reply can change what a request is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::record::{DnsName, Zone};

use super::txt;

/// In a body's list: what follows comes once for each record or name.
const EACH: &str = "each";
/// In a body's list: what follows comes once for each new value; those of others come as they were.
const EACH_VALUE: &str = "each-value";

/// A text with `{names}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Named(String),
}

impl Template {
    /// Reads `text {name} text`; an error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let unpaired = || format!("`{text}` has a brace without its other");
            let inner = rest[at..].strip_prefix('{').ok_or_else(unpaired)?;
            let (name, after) = inner.split_once('}').ok_or_else(unpaired)?;
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            parts.push(Part::Named(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The names in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Named(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// As octets, with what `of` has under a name.
    pub(super) fn bytes<'v>(
        &self,
        of: impl Fn(&str) -> Option<&'v [u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Missing> {
        let mut bytes = Zeroizing::new(Vec::new());
        for part in &self.0 {
            bytes.extend_from_slice(match part {
                Part::Text(fixed) => fixed.as_bytes(),
                Part::Named(name) => of(name).ok_or_else(|| Missing(name.clone()))?,
            });
        }
        Ok(bytes)
    }

    /// As text.
    pub(super) fn text(&self, values: &Values<'_>) -> Result<String, Missing> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Named(name) => match values.of(name)? {
                    Value::String(value) => text.push_str(&value),
                    Value::Null => {}
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(text)
    }

    /// As JSON: a number or null where the template is nothing but the name of one.
    fn json(&self, values: &Values<'_>) -> Result<Value, Missing> {
        match &self.0[..] {
            [Part::Named(name)] => values.of(name),
            _ => self.text(values).map(Value::String),
        }
    }
}

/// A template names something that is not known there. The check of a manifest finds that before.
#[derive(Debug)]
pub(super) struct Missing(pub(super) String);

/// What templates can name, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Values<'v> {
    pub(super) zone: Option<&'v Zone>,
    /// The zone that is looked for.
    pub(super) candidate: Option<&'v DnsName>,
    pub(super) name: Option<&'v DnsName>,
    /// How the apex is called where names are relative.
    pub(super) apex: &'v str,
    pub(super) value: Option<&'v str>,
    /// The value as the host itself writes it.
    pub(super) stored: Option<&'v str>,
    /// `Some(None)`: the host's default.
    pub(super) ttl: Option<Option<u32>>,
    pub(super) id: Option<&'v str>,
    pub(super) receipt: Option<&'v str>,
    pub(super) settings: Option<&'v BTreeMap<String, String>>,
}

impl Values<'_> {
    fn of(&self, name: &str) -> Result<Value, Missing> {
        let text = |it: Option<&str>| it.map(|it| Value::String(it.to_owned()));
        let found = match name {
            "zone" => text(
                (self.candidate)
                    .or(self.zone.map(|it| &it.name))
                    .map(DnsName::as_str),
            ),
            "zone-id" => text(self.zone.map(|it| it.id.as_str())),
            "name" => text(self.name.map(DnsName::as_str)),
            "label" => self.label().map(Value::String),
            "value" => text(self.value),
            "quoted-value" => self.value.map(|it| Value::String(txt::quoted(it))),
            "stored" => text(self.stored),
            "ttl" => self.ttl.map(|it| it.map_or(Value::Null, Value::from)),
            "ttl-text" => self
                .ttl
                .map(|it| Value::String(it.map_or_else(String::new, |it| it.to_string()))),
            "id" => text(self.id),
            "receipt" => text(self.receipt),
            setting => text(
                self.settings
                    .and_then(|it| it.get(setting))
                    .map(String::as_str),
            ),
        };
        found.ok_or_else(|| Missing(name.to_owned()))
    }

    fn label(&self) -> Option<String> {
        Some(label(self.name?, &self.zone?.name, self.apex))
    }
}

/// `name` relative to `zone`.
pub(super) fn label(name: &DnsName, zone: &DnsName, apex: &str) -> String {
    let front = name.as_str().strip_suffix(zone.as_str());
    let front = front.and_then(|it| it.strip_suffix('.'));
    front.unwrap_or(apex).to_owned()
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// What has no names in it.
    Fixed(Value),
    /// A text.
    Text(Template),
    /// A list.
    List(Vec<Body>),
    /// An object.
    Object(Vec<(String, Body)>),
    /// Once for each record or name.
    Each(Box<Body>),
    /// Once for each new value.
    EachValue(Box<Body>),
}

/// One of the things that a request is about.
pub(super) struct Item<'v> {
    pub(super) values: Values<'v>,
    /// What is there and stays, as the host wrote it.
    pub(super) kept: Vec<Value>,
    /// Values that are new.
    pub(super) new: Vec<&'v str>,
}

impl Body {
    /// Reads it; an error is a sentence.
    pub(super) fn parse(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Template::parse(&text).map(Self::Text),
            Value::Array(list) => {
                let list = list.into_iter().map(Self::element);
                list.collect::<Result<_, _>>().map(Self::List)
            }
            Value::Object(object) => {
                let object = object.into_iter().map(|(key, value)| match key.as_str() {
                    EACH | EACH_VALUE => {
                        Err(format!("`{key}` stands alone in an element of a list"))
                    }
                    _ => Ok((key, Self::parse(value)?)),
                });
                object.collect::<Result<_, _>>().map(Self::Object)
            }
            fixed => Ok(Self::Fixed(fixed)),
        }
    }

    fn element(value: Value) -> Result<Self, String> {
        let Value::Object(mut object) = value else {
            return Self::parse(value);
        };
        if object.len() == 1 {
            if let Some(inner) = object.remove(EACH) {
                return Ok(Self::Each(Box::new(Self::parse(inner)?)));
            }
            if let Some(inner) = object.remove(EACH_VALUE) {
                return Ok(Self::EachValue(Box::new(Self::parse(inner)?)));
            }
        }
        Self::parse(Value::Object(object))
    }

    /// Every template in it, with whether it comes once for each item, and once for each value.
    pub(super) fn templates<'b>(&'b self, place: Place, found: &mut Vec<(Place, &'b Template)>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(template) => found.push((place, template)),
            Self::List(list) => list.iter().for_each(|it| it.templates(place, found)),
            Self::Object(object) => object.iter().for_each(|it| it.1.templates(place, found)),
            Self::Each(inner) => {
                let in_each = true;
                inner.templates(Place { in_each, ..place }, found);
            }
            Self::EachValue(inner) => {
                let in_each_value = true;
                inner.templates(
                    Place {
                        in_each_value,
                        ..place
                    },
                    found,
                );
            }
        }
    }

    /// Whether one request takes many records or names.
    pub(super) fn takes_many(&self) -> bool {
        match self {
            Self::Each(_) => true,
            Self::List(list) => list.iter().any(Self::takes_many),
            Self::Object(object) => object.iter().any(|it| it.1.takes_many()),
            Self::Fixed(_) | Self::Text(_) | Self::EachValue(_) => false,
        }
    }

    /// Whether it has a place for values.
    pub(super) fn takes_values(&self) -> bool {
        match self {
            Self::EachValue(_) => true,
            Self::Each(inner) => inner.takes_values(),
            Self::List(list) => list.iter().any(Self::takes_values),
            Self::Object(object) => object.iter().any(|it| it.1.takes_values()),
            Self::Fixed(_) | Self::Text(_) => false,
        }
    }

    /// The JSON of it, about `items`; outside of `each` it is about the first.
    pub(super) fn json(&self, values: &Values<'_>, items: &[Item<'_>]) -> Result<Value, Missing> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Text(template) => template.json(values),
            Self::List(list) => {
                let mut json = Vec::new();
                for body in list {
                    body.extend(values, items, &mut json)?;
                }
                Ok(Value::Array(json))
            }
            Self::Object(object) => {
                let mut json = Map::new();
                for (key, body) in object {
                    json.insert(key.clone(), body.json(values, items)?);
                }
                Ok(Value::Object(json))
            }
            Self::Each(_) | Self::EachValue(_) => Err(Missing("a list around it".to_owned())),
        }
    }

    /// Puts the elements that it stands for into a list.
    fn extend(
        &self,
        values: &Values<'_>,
        items: &[Item<'_>],
        list: &mut Vec<Value>,
    ) -> Result<(), Missing> {
        match self {
            Self::Each(inner) => {
                for item in items {
                    list.push(inner.json(&item.values, std::slice::from_ref(item))?);
                }
            }
            Self::EachValue(inner) => {
                for item in items {
                    list.extend(item.kept.iter().cloned());
                    for new in &item.new {
                        let value = Some(*new);
                        list.push(inner.json(
                            &Values {
                                value,
                                ..item.values
                            },
                            &[],
                        )?);
                    }
                }
            }
            other => list.push(other.json(values, items)?),
        }
        Ok(())
    }
}

/// Where in a body a template stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) in_each: bool,
    pub(super) in_each_value: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_put_in_and_braces_come_in_pairs() {
        let zone = Zone {
            name: DnsName::parse("example.test").unwrap(),
            id: "7/../8?x=1".to_owned(),
        };
        let name = DnsName::parse("a.b.example.test").unwrap();
        let values = Values {
            zone: Some(&zone),
            name: Some(&name),
            apex: "@",
            value: Some("{id} \"x\""),
            ttl: Some(Some(60)),
            ..Values::default()
        };
        let text = |text: &str| Template::parse(text).unwrap().text(&values).unwrap();
        assert_eq!(
            text("{label}|{name}.|{zone}"),
            "a.b|a.b.example.test.|example.test"
        );
        assert_eq!(text("{zone-id}"), "7/../8?x=1", "escaped where it is used");
        assert_eq!(
            text("{value}"),
            "{id} \"x\"",
            "what is put in is no template"
        );
        assert_eq!(text("{quoted-value}"), "\"{id} \\\"x\\\"\"");
        assert_eq!(text(""), "");
        let apex = Values {
            name: Some(&zone.name),
            ..values
        };
        assert_eq!(
            Template::parse("{label}").unwrap().text(&apex).unwrap(),
            "@"
        );
        for broken in ["{", "}", "{a", "a}", "{a}}"] {
            assert!(Template::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_body_keeps_its_shape_whatever_is_put_in() {
        let body = json!({"type": "TXT", "ttl": "{ttl}", "text": "{value}", "list": [{"each-value": {"content": "{quoted-value}"}}, 1]});
        let body = Body::parse(body).unwrap();
        let values = Values {
            value: Some("\", \"type\": \"A"),
            ttl: Some(None),
            ..Values::default()
        };
        let item = Item {
            values,
            kept: vec![json!({"content": "\"theirs\"", "more": true})],
            new: vec!["ours\"}"],
        };
        assert_eq!(
            body.json(&values, &[item]).unwrap(),
            json!({
                "type": "TXT", "ttl": null, "text": "\", \"type\": \"A",
                "list": [{"content": "\"theirs\"", "more": true}, {"content": "\"ours\\\"}\""}, 1],
            })
        );
        assert!(Body::parse(json!({"each": {}, "x": 1})).is_err());
    }
}
