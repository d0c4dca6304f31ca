//! Comparison without case.

use std::borrow::Cow;

/// The text in lower case, character by character (so that no character's fold
/// depends on its neighbours). Both sides of a comparison go through this.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        }
    } else {
        Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn case_goes_in_every_script() {
        for (one, other) in
            [("PowerShell", "POWERSHELL"), ("ÄRGER", "ärger"), ("ОДИН", "один"), ("ΣΑΣ", "σασ")]
        {
            assert_eq!(fold(one), fold(other));
        }
        assert_eq!(fold("可疑"), "可疑");
    }
}
