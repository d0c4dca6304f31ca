//! Spans of time as people write them: `500ms`, `10s`, `5m`, `4h`, `7d`.

use std::time::Duration;

/// The longest span, for every time in a playbook.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// From a number and a unit; `None` where it is none, is zero, or is past 30 days.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let millis = match text.get(digits..)?.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let span = Duration::from_millis(number.checked_mul(millis)?);
    (!span.is_zero() && span <= LONGEST).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_bounds() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("4h"), Some(Duration::from_secs(14_400)));
        for bad in ["", "5", "h", "0s", "31d", "-1s", "5 weeks", "99999999999999999999s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
