//! The field names a type asks its deserializer for.

use serde::de::{self, Deserialize, Visitor};
use serde::forward_to_deserialize_any;

pub(in crate::config) fn of<'de, T: Deserialize<'de>>() -> Vec<String> {
    let mut fields = Vec::new();
    drop(T::deserialize(Asked(&mut fields)));
    fields.sort();
    fields
}

struct Asked<'a>(&'a mut Vec<String>);

impl<'de> serde::Deserializer<'de> for Asked<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields.iter().map(ToString::to_string));
        Err(de::Error::custom("enough"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
