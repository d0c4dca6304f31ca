//! What observed activities say, in the words of the tests.

use event_model::{Field, Value};
use sensor_api::{Actor, Observation, Observed, ObservedActivity};

pub(crate) fn activities(all: &[Observed]) -> impl Iterator<Item = &ObservedActivity> {
    all.iter().filter_map(|observed| match &observed.what {
        Observation::Activity(activity) => Some(activity.as_ref()),
        _ => None,
    })
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(crate) fn list(texts: &[&str]) -> Value {
    Value::TextList(texts.iter().map(|text| (*text).to_owned()).collect())
}

pub(crate) fn value(activity: &ObservedActivity, field: Field) -> Option<&Value> {
    activity.fields.iter().find(|(known, _)| *known == field).map(|(_, value)| value)
}

pub(crate) fn text_of(activity: &ObservedActivity, field: Field) -> &str {
    match value(activity, field) {
        Some(Value::Text(text)) => text,
        other => panic!("{field:?} is {other:?} in {activity:?}"),
    }
}

pub(crate) fn assert_target(activity: &ObservedActivity, pid: u32) {
    match activity.target {
        Some(Actor::Life(key)) => assert_eq!(key.pid, pid, "{activity:?}"),
        other => panic!("the target is {other:?}, not life of {pid}: {activity:?}"),
    }
}

pub(crate) const SUCCESS: (Field, &str) = (Field::EventOutcome, "success");
pub(crate) const FAILURE: (Field, &str) = (Field::EventOutcome, "failure");

pub(crate) fn outcome(outcome: (Field, &str)) -> (Field, Value) {
    (outcome.0, text(outcome.1))
}
