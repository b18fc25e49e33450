//! Ways into a JSON reply: JSON pointers (RFC 6901) in which `*` stands for every element of a list.

use serde_json::Value;

use crate::words::printable;

/// No list that is made for a way is longer.
const MOST_ELEMENTS: usize = 100;
/// No reply nests what is looked for deeper, and what is made for a way is no deeper than this.
const MOST_STEPS: usize = 16;
/// So much is shown of a way that cannot be used.
const SHOWN: usize = 60;

/// A way into a reply, e.g. `/records/*/content`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Every,
}

impl Pointer {
    /// Reads `""`, which is the whole, or `/key/0/*`; an error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shown = || printable(text, SHOWN);
        let rest = match text.strip_prefix('/') {
            Some(rest) => rest,
            None if text.is_empty() => return Ok(Self::default()),
            None => {
                return Err(format!(
                    "`{}` is no way into a reply: it begins with `/`",
                    shown()
                ));
            }
        };
        let count = rest.split('/').count();
        if count > MOST_STEPS {
            return Err(format!(
                "`{}` has {count} steps, a way into a reply has at most {MOST_STEPS}",
                shown()
            ));
        }
        let steps = rest.split('/').map(|step| match step {
            "*" => Step::Every,
            key => Step::Key(key.replace("~1", "/").replace("~0", "~")),
        });
        Ok(Self {
            text: text.to_owned(),
            steps: steps.collect(),
        })
    }

    /// The key that it ends at.
    pub(super) fn last_key(&self) -> Option<&str> {
        match self.steps.last() {
            Some(Step::Key(key)) => Some(key),
            Some(Step::Every) | None => None,
        }
    }

    /// What is there; nothing where a key is missing or a value is null.
    pub(super) fn one<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.all(value).ok()?.into_iter().next()
    }

    /// What is there as text, of a text or a number.
    pub(super) fn text_of(&self, value: &Value) -> Option<String> {
        text(self.one(value)?)
    }

    /// All that is there. An error is the list that is missing, or is none.
    pub(super) fn all<'v>(&self, value: &'v Value) -> Result<Vec<&'v Value>, String> {
        let mut found = vec![value];
        for (nth, step) in self.steps.iter().enumerate() {
            let mut next = Vec::new();
            for value in found {
                match step {
                    Step::Key(key) => next.extend(child(value, key)),
                    Step::Every => next.extend(value.as_array().ok_or_else(|| self.until(nth))?),
                }
            }
            // A list that is not there is not an empty one. In elements of another list it may be left out.
            let list_follows = self.steps.get(nth + 1) == Some(&Step::Every);
            if next.is_empty() && list_follows && !self.steps[..nth].contains(&Step::Every) {
                return Err(self.until(nth + 1));
            }
            found = next;
        }
        Ok(found)
    }

    /// Puts `value` where [`Pointer::one`] finds it, and makes the way there; `false` where something else is in the way.
    pub(super) fn put(&self, into: &mut Value, value: Value) -> bool {
        way(&self.steps, into).map(|place| *place = value).is_some()
    }

    /// Puts `values` where [`Pointer::all`] finds them; `false` where there is no room for so many.
    pub(super) fn put_all(&self, into: &mut Value, values: Vec<Value>) -> bool {
        let last = self.steps.iter().rposition(|it| *it == Step::Every);
        let Some(last) = last else {
            let mut values = values.into_iter();
            return match (values.next(), values.next()) {
                (None, _) => true,
                (Some(value), None) => self.put(into, value),
                (Some(_), Some(_)) => false,
            };
        };
        let Some(list) = way(&self.steps[..last], into) else {
            return false;
        };
        let mut elements = Vec::new();
        for value in values {
            let mut element = Value::Null;
            let Some(place) = way(&self.steps[last + 1..], &mut element) else {
                return false;
            };
            *place = value;
            elements.push(element);
        }
        *list = Value::Array(elements);
        true
    }

    /// The way to the list that step `nth` goes through.
    fn until(&self, nth: usize) -> String {
        let steps: Vec<&str> = self.text.split('/').take(nth + 1).collect();
        steps.join("/")
    }
}

/// The place that `steps` lead to, made where it is missing; of lists whose elements all count, in the first.
fn way<'v>(steps: &[Step], from: &'v mut Value) -> Option<&'v mut Value> {
    let mut here = from;
    for step in steps {
        let index = match step {
            Step::Every => Some(0),
            // In what is new a number counts elements.
            Step::Key(key) if !here.is_object() => key.parse::<usize>().ok(),
            Step::Key(_) => None,
        };
        if here.is_null() {
            *here = match index {
                Some(_) => Value::Array(Vec::new()),
                None => Value::Object(serde_json::Map::new()),
            };
        }
        here = match (here, step, index) {
            (Value::Array(list), _, Some(index)) if index < MOST_ELEMENTS => {
                if list.len() <= index {
                    list.resize(index + 1, Value::Null);
                }
                list.get_mut(index)?
            }
            (Value::Object(object), Step::Key(key), _) => {
                object.entry(key.clone()).or_insert(Value::Null)
            }
            _ => return None,
        };
    }
    Some(here)
}

fn child<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    let child = match value {
        Value::Object(object) => object.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    };
    child.filter(|it| !it.is_null())
}

/// A text or a number as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A number, also one that is written as text.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn goes_through_keys_numbers_and_lists() {
        let reply = json!({"a/b": [{"x": 1}, {"x": null}, {"x": "3"}], "n": null});
        let all = |text: &str| Pointer::parse(text).unwrap().all(&reply).map(|it| it.len());
        assert_eq!(all(""), Ok(1));
        assert_eq!(all("/a~1b/*"), Ok(3));
        assert_eq!(all("/a~1b/*/x"), Ok(2), "null is nothing");
        assert_eq!(all("/a~1b/2/x"), Ok(1));
        assert_eq!(all("/n"), Ok(0));
        assert_eq!(all("/missing/deeper"), Ok(0));
    }

    #[test]
    fn what_is_put_is_found() {
        for text in ["", "/a/b", "/errors/0/reason", "/*/records/0", "/a~1b/2"] {
            let way = Pointer::parse(text).unwrap();
            let mut reply = Value::Null;
            assert!(way.put(&mut reply, json!("here")), "{text}");
            assert_eq!(way.one(&reply), Some(&json!("here")), "{text}: {reply}");
        }
        for text in ["/*", "/items/*", "/a/*/b/*/c"] {
            let way = Pointer::parse(text).unwrap();
            let mut reply = Value::Null;
            assert!(way.put_all(&mut reply, vec![json!(1), json!(2)]), "{text}");
            assert_eq!(way.all(&reply), Ok(vec![&json!(1), &json!(2)]), "{text}");
        }
        let way = |text: &str| Pointer::parse(text).unwrap();
        let mut reply = json!({"a": 1});
        assert!(
            !way("/a/b").put(&mut reply, json!(2)),
            "a number is in the way"
        );
        assert!(!way("/b").put_all(&mut reply, vec![json!(1), json!(2)]));
        assert!(!way("/b/4000000000").put(&mut Value::Null, json!(1)));
    }

    #[test]
    fn a_list_that_is_missing_or_is_none_is_named() {
        let reply = json!({"a": {"b": "no list"}});
        let all = |text: &str| Pointer::parse(text).unwrap().all(&reply).map(|it| it.len());
        assert_eq!(all("/a/b/*"), Err("/a/b".to_owned()));
        assert_eq!(all("/a/c/*/x"), Err("/a/c".to_owned()));
        assert_eq!(all("/*"), Err(String::new()));
        assert!(Pointer::parse("a/b").is_err());
    }

    #[test]
    fn a_way_with_too_many_steps_is_refused_in_a_few_words() {
        assert!(Pointer::parse(&"/*".repeat(16)).is_ok());
        let why = Pointer::parse(&"/*".repeat(2_800)).unwrap_err();
        assert!(
            why.contains("has 2800 steps, a way into a reply has at most 16"),
            "{why}"
        );
        assert!(why.len() < 200, "{why}");
    }
}
