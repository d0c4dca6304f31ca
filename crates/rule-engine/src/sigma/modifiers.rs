//! The modifiers behind a field's name, read and checked against each other.

use crate::expression::{Order, TimeUnit};
use crate::nearest::{listed, nearest};

/// What is done to the texts of an item's values, in the order written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    Contains,
    StartsWith,
    EndsWith,
    Base64,
    Base64Offset,
    Utf16 { is_big_endian: bool, has_mark: bool },
    Windash,
    Expand,
}

/// What an item's values are, if not texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Regex,
    Cidr,
    Exists,
    FieldRef,
    Quantity(Order),
    TimePart(TimeUnit, Order),
}

/// The modifiers of one item.
#[derive(Debug)]
pub(super) struct Modifiers {
    pub(super) kind: Kind,
    pub(super) transforms: Vec<Transform>,
    /// Every value must be there, not one of them.
    pub(super) all: bool,
    pub(super) cased: bool,
    pub(super) negated: bool,
    /// Flags of a regular expression.
    pub(super) flags: String,
}

/// What is wrong with a modifier, and which.
#[derive(Debug)]
pub(super) struct ModifierError {
    pub(super) index: usize,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

const NAMES: &[&str] = &[
    "all",
    "base64",
    "base64offset",
    "cased",
    "cidr",
    "contains",
    "day",
    "dotall",
    "endswith",
    "exists",
    "expand",
    "fieldref",
    "gt",
    "gte",
    "hour",
    "i",
    "ignorecase",
    "lt",
    "lte",
    "m",
    "minute",
    "month",
    "multiline",
    "neq",
    "re",
    "s",
    "startswith",
    "utf16",
    "utf16be",
    "utf16le",
    "week",
    "wide",
    "windash",
    "year",
];

impl Modifiers {
    /// From the words behind the field's name.
    pub(super) fn read(words: &[&str]) -> Result<Self, ModifierError> {
        let mut own = Self {
            kind: Kind::Text,
            transforms: Vec::new(),
            all: false,
            cased: false,
            negated: false,
            flags: String::new(),
        };
        for (index, word) in words.iter().enumerate() {
            own.add(word).map_err(|(reason, hint)| ModifierError { index, reason, hint })?;
        }
        Ok(own)
    }

    fn add(&mut self, word: &str) -> Result<(), (String, Option<String>)> {
        match word {
            "all" => self.all = true,
            "cased" => self.cased = true,
            "neq" => self.negated = true,
            "contains" => self.transform(word, Transform::Contains)?,
            "startswith" => self.transform(word, Transform::StartsWith)?,
            "endswith" => self.transform(word, Transform::EndsWith)?,
            "base64" => self.transform(word, Transform::Base64)?,
            "base64offset" => self.transform(word, Transform::Base64Offset)?,
            "wide" | "utf16le" => {
                self.transform(word, Transform::Utf16 { is_big_endian: false, has_mark: false })?;
            }
            "utf16be" => self.transform(word, Transform::Utf16 { is_big_endian: true, has_mark: false })?,
            "utf16" => self.transform(word, Transform::Utf16 { is_big_endian: false, has_mark: true })?,
            "windash" => self.transform(word, Transform::Windash)?,
            "expand" => self.transform(word, Transform::Expand)?,
            "re" => self.kind(word, Kind::Regex)?,
            "cidr" => self.kind(word, Kind::Cidr)?,
            "exists" => self.kind(word, Kind::Exists)?,
            "fieldref" => self.kind(word, Kind::FieldRef)?,
            "i" | "ignorecase" => self.flag(word, 'i')?,
            "m" | "multiline" => self.flag(word, 'm')?,
            "s" | "dotall" => self.flag(word, 's')?,
            "lt" => self.order(word, Order::Less)?,
            "lte" => self.order(word, Order::LessOrEqual)?,
            "gt" => self.order(word, Order::Greater)?,
            "gte" => self.order(word, Order::GreaterOrEqual)?,
            "minute" => self.kind(word, Kind::TimePart(TimeUnit::Minute, Order::Equal))?,
            "hour" => self.kind(word, Kind::TimePart(TimeUnit::Hour, Order::Equal))?,
            "day" => self.kind(word, Kind::TimePart(TimeUnit::Day, Order::Equal))?,
            "week" => self.kind(word, Kind::TimePart(TimeUnit::Week, Order::Equal))?,
            "month" => self.kind(word, Kind::TimePart(TimeUnit::Month, Order::Equal))?,
            "year" => self.kind(word, Kind::TimePart(TimeUnit::Year, Order::Equal))?,
            _ => {
                let hint = match nearest(word, NAMES.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("Sigma has {}", listed(NAMES.iter().copied())),
                };
                return Err((format!("`{word}` is no modifier"), Some(hint)));
            }
        }
        Ok(())
    }

    /// Texts are transformed; of the other kinds, regular expressions and references have an anchor.
    fn transform(&mut self, word: &str, transform: Transform) -> Result<(), (String, Option<String>)> {
        let is_anchor =
            matches!(transform, Transform::Contains | Transform::StartsWith | Transform::EndsWith);
        let may_have_anchor = matches!(self.kind, Kind::Regex | Kind::FieldRef);
        if self.kind == Kind::Text || (is_anchor && may_have_anchor) {
            self.transforms.push(transform);
            return Ok(());
        }
        Err((format!("`{word}` can't be used with the modifiers before it"), None))
    }

    fn kind(&mut self, word: &str, kind: Kind) -> Result<(), (String, Option<String>)> {
        let is_anchor = |transform: &Transform| {
            matches!(transform, Transform::Contains | Transform::StartsWith | Transform::EndsWith)
        };
        // `startswith|fieldref` is as good as `fieldref|startswith`.
        let keeps = match kind {
            Kind::FieldRef | Kind::Regex => self.transforms.iter().all(is_anchor),
            _ => self.transforms.is_empty(),
        };
        if self.kind != Kind::Text || !keeps {
            return Err((format!("`{word}` can't be used with the modifiers before it"), None));
        }
        self.kind = kind;
        Ok(())
    }

    fn flag(&mut self, word: &str, flag: char) -> Result<(), (String, Option<String>)> {
        if self.kind != Kind::Regex {
            let hint = Some("write it behind `re`: `|re|i`".to_owned());
            return Err((format!("`{word}` is a flag of a regular expression"), hint));
        }
        if !self.flags.contains(flag) {
            self.flags.push(flag);
        }
        Ok(())
    }

    fn order(&mut self, word: &str, order: Order) -> Result<(), (String, Option<String>)> {
        match self.kind {
            Kind::TimePart(unit, Order::Equal) => self.kind = Kind::TimePart(unit, order),
            _ => self.kind(word, Kind::Quantity(order))?,
        }
        Ok(())
    }
}
