//! Phone numbers: read leniently, kept in one form.

use phonenumber::{Mode, Type};

use crate::http::problem::Problem;

/// Longest text that is looked at.
const LONGEST: usize = 40;

/// Reads the numbering plans of all countries, so that the first login need not wait for it.
pub(crate) fn warm_up() {
    let _ = phonenumber::metadata::DATABASE.by_code(&976);
}

/// Reads a phone in international form, spaces and hyphens allowed, `00` for `+`; gives E.164.
///
/// # Errors
/// Names the field `phone`: no number, an extension, no mobile, or a country that is not served.
pub(crate) fn parse(text: &str, countries: &[u16]) -> Result<String, Problem> {
    let refuse = |why: &str| Problem::field("phone", why);
    if text.len() > LONGEST {
        return Err(refuse("is too long for a phone number"));
    }
    let trimmed = text.trim();
    // Letters would be read as digits of a keypad or begin an extension.
    if !trimmed.chars().all(|c| c.is_ascii_digit() || "+-.() \u{a0}".contains(c)) {
        return Err(refuse("holds other signs than digits, +, spaces and hyphens"));
    }
    let international = match trimmed.strip_prefix("00") {
        Some(rest) => format!("+{rest}"),
        None => trimmed.to_owned(),
    };
    if !international.starts_with('+') {
        return Err(refuse("is not in international form, e.g. +976 8666 1488"));
    }
    let number = phonenumber::parse(None, &international).map_err(|_| refuse("is no phone number"))?;
    if number.extension().is_some() {
        return Err(refuse("has an extension"));
    }
    if !phonenumber::is_valid(&number) {
        return Err(refuse("is no valid phone number"));
    }
    if !countries.contains(&number.country().code()) {
        return Err(refuse("is of a country that is not served"));
    }
    let kind = number.number_type(&phonenumber::metadata::DATABASE);
    if !matches!(kind, Type::Mobile | Type::FixedLineOrMobile) {
        return Err(refuse("is no mobile phone"));
    }
    Ok(number.format().mode(Mode::E164).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_number_however_it_is_written() {
        for text in
            ["+976 8666 1488", "+97686661488", "0097686661488", "+976 8666-1488", " +976 86661488 ", "00 976 8666 1488"]
        {
            assert_eq!(parse(text, &[976]).unwrap(), "+97686661488", "{text}");
        }
    }

    #[test]
    fn what_is_no_mobile_of_a_served_country_is_refused() {
        for text in [
            "",
            "12",
            "+976",
            "hello",
            "86661488",
            "+97686661488 ext 5",
            "+97686661488;ext=5",
            "tel:+97686661488",
            "+976 86MOBILE",
            "+976 ٨٦٦٦١٤٨٨",
            "+97611312345",
            "+4915112345678",
            "+9768666148812",
        ] {
            assert!(parse(text, &[976]).is_err(), "{text}");
        }
        assert!(parse("+4915112345678", &[976, 49]).is_ok());
    }
}
