//! Ways into a JSON reply: JSON pointers (RFC 6901) in which `*` stands for every element of a list.

use serde_json::Value;

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
        let rest = match text.strip_prefix('/') {
            Some(rest) => rest,
            None if text.is_empty() => return Ok(Self::default()),
            None => {
                return Err(format!(
                    "`{text}` is no way into a reply: it begins with `/`"
                ));
            }
        };
        let steps = rest.split('/').map(|step| match step {
            "*" => Step::Every,
            key => Step::Key(key.replace("~1", "/").replace("~0", "~")),
        });
        Ok(Self {
            text: text.to_owned(),
            steps: steps.collect(),
        })
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

    /// The way to the list that step `nth` goes through.
    fn until(&self, nth: usize) -> String {
        let steps: Vec<&str> = self.text.split('/').take(nth + 1).collect();
        steps.join("/")
    }
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
    fn a_list_that_is_missing_or_is_none_is_named() {
        let reply = json!({"a": {"b": "no list"}});
        let all = |text: &str| Pointer::parse(text).unwrap().all(&reply).map(|it| it.len());
        assert_eq!(all("/a/b/*"), Err("/a/b".to_owned()));
        assert_eq!(all("/a/c/*/x"), Err("/a/c".to_owned()));
        assert_eq!(all("/*"), Err(String::new()));
        assert!(Pointer::parse("a/b").is_err());
    }
}
