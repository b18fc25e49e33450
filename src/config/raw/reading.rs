//! How those types are read that YAML can write in more than one way, or whose keys are the user's choice.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value};

use super::*;

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let entry = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": entry })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Unknown;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Unknown(keys))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with file, env, credential or command")
            }
            fn visit_str<E>(self, _: &str) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_i128<E>(self, _: i128) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_u128<E>(self, _: u128) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Secret, E> {
                Ok(Secret::Bare)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Secret, A::Error> {
                while let Some(IgnoredAny) = list.next_element()? {}
                Ok(Secret::Bare)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                SecretForm::deserialize(value::MapAccessDeserializer::new(map)).map(Secret::Form)
            }
        }
        deserializer.deserialize_any(Source)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(number.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl<'de> Deserialize<'de> for Deliver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = Deliver;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with files, or the name of a target")
            }
            fn visit_str<E>(self, name: &str) -> Result<Deliver, E> {
                Ok(Deliver::Named(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Deliver, A::Error> {
                Target::deserialize(value::MapAccessDeserializer::new(map))
                    .map(|it| Deliver::InPlace(Box::new(it)))
            }
        }
        deserializer.deserialize_any(Place)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = Address;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a mapping that says where it is")
            }
            fn visit_str<E>(self, url: &str) -> Result<Address, E> {
                Ok(Address::Url(url.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Address, A::Error> {
                SecretForm::deserialize(value::MapAccessDeserializer::new(map)).map(Address::Secret)
            }
        }
        deserializer.deserialize_any(Place)
    }
}

impl JsonSchema for Rest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rest".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let given = generator.subschema_for::<Given>();
        schemars::json_schema!({
            "type": "object",
            "description": "A host by its manifest, which says what it wants.",
            "properties": {
                "endpoint": {"type": "string", "description": "Where the API is: https, or http on loopback. Default: what the manifest says."},
            },
            "additionalProperties": given,
        })
    }
}

impl<'de> Deserialize<'de> for Rest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Entries::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Something;
        impl<'de> Visitor<'de> for Something {
            type Value = Given;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a source of a secret")
            }
            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given::Text(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Given, E> {
                Ok(Given::Text(number.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Given, A::Error> {
                SecretForm::deserialize(value::MapAccessDeserializer::new(map)).map(Given::Secret)
            }
        }
        deserializer.deserialize_any(Something)
    }
}

impl<'de> Deserialize<'de> for Webhook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Webhook;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a mapping with url")
            }
            fn visit_str<E>(self, url: &str) -> Result<Webhook, E> {
                Ok(Webhook::Url(Address::Url(url.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Webhook, A::Error> {
                WebhookForm::deserialize(value::MapAccessDeserializer::new(map))
                    .map(|it| Webhook::Form(Box::new(it)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}
