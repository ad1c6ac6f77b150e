//! Values as Java has them: how a text becomes a number, and how two values compare.

use std::cmp::Ordering;

/// What an operand is for a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'v> {
    /// A property that the message does not have, and whatever cannot be told without it.
    Null,
    Boolean(bool),
    /// A literal that fits 32 bits: a property beside it must fit them as well.
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'v str),
}

/// A property is not the number that it is compared with; or a comparison for which RocketMQ has no conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a property cannot be converted to what it is compared with")]
pub struct NotConvertible;

impl Value<'_> {
    /// `-`: nothing but a number has it.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Int(number) => Self::Int(number.wrapping_neg()),
            Self::Long(number) => Self::Long(number.wrapping_neg()),
            Self::Double(number) => Self::Double(-number),
            Self::Null | Self::Boolean(_) | Self::Text(_) => Self::Null,
        }
    }

    /// `=`, which is unknown only if the left side alone is missing.
    pub(super) fn equals(self, other: Self) -> Result<Option<bool>, NotConvertible> {
        match (self, other) {
            (Self::Null, Self::Null) => Ok(Some(true)),
            (Self::Null, _) => Ok(None),
            (_, Self::Null) => Ok(Some(false)),
            (Self::Text(left), Self::Text(right)) => Ok(Some(left == right)),
            (left, right) => Ok(Some(left.compare(right)? == Ordering::Equal)),
        }
    }

    /// What `<` and its like go by; neither side is null. Two texts are two numbers to them.
    pub(super) fn order(self, other: Self) -> Result<Ordering, NotConvertible> {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => Ok(order(double(left)?, double(right)?)),
            (left, right) => left.compare(right),
        }
    }

    /// Each is converted to what the other is; a boolean on the left converts no text. A boolean is below every number, and
    /// every number below a boolean: whichever is on the left.
    fn compare(self, other: Self) -> Result<Ordering, NotConvertible> {
        match (self, other) {
            (Self::Text(left), Self::Boolean(right)) => Ok(left.eq_ignore_ascii_case("true").cmp(&right)),
            (Self::Boolean(_), Self::Text(_)) => Err(NotConvertible),
            (Self::Boolean(left), Self::Boolean(right)) => Ok(left.cmp(&right)),
            (Self::Boolean(_), _) | (_, Self::Boolean(_)) => Ok(Ordering::Less),
            (Self::Text(left), right) => right.like(left)?.compare(right),
            (left, Self::Text(right)) => left.compare(left.like(right)?),
            (left, right) => Ok(match (left.whole(), right.whole()) {
                (Some(left), Some(right)) => left.cmp(&right),
                _ => order(left.real(), right.real()),
            }),
        }
    }

    /// A text as a number of the same kind.
    fn like(self, text: &str) -> Result<Value<'static>, NotConvertible> {
        match self {
            Self::Int(_) => {
                let number = i32::try_from(long(text)?).map_err(|_out_of_range| NotConvertible)?;
                Ok(Value::Int(number))
            }
            Self::Long(_) => Ok(Value::Long(long(text)?)),
            Self::Double(_) => Ok(Value::Double(double(text)?)),
            Self::Null | Self::Boolean(_) | Self::Text(_) => Err(NotConvertible),
        }
    }

    fn whole(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number.into()),
            Self::Long(number) => Some(number),
            _ => None,
        }
    }

    fn real(self) -> f64 {
        match self {
            Self::Int(number) => number.into(),
            // As Java widens it: to the nearest there is.
            Self::Long(number) => number as f64,
            Self::Double(number) => number,
            Self::Null | Self::Boolean(_) | Self::Text(_) => f64::NAN,
        }
    }
}

/// Java's order of doubles: `-0.0` is below `0.0`, and `NaN` above all and equal to itself.
fn order(left: f64, right: f64) -> Ordering {
    match left.partial_cmp(&right) {
        Some(Ordering::Equal) => left.total_cmp(&right),
        Some(ordering) => ordering,
        None => left.is_nan().cmp(&right.is_nan()),
    }
}

/// `Long.parseLong`: an optional sign, then decimal digits of any script.
pub(super) fn long(text: &str) -> Result<i64, NotConvertible> {
    let (is_negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return Err(NotConvertible);
    }
    let mut number: i64 = 0;
    for character in digits.chars() {
        let digit = i64::from(digit(character).ok_or(NotConvertible)?);
        // Towards the sign, because the lowest number has no opposite.
        let tens = number.checked_mul(10);
        let next = if is_negative {
            tens.and_then(|tens| tens.checked_sub(digit))
        } else {
            tens.and_then(|tens| tens.checked_add(digit))
        };
        number = next.ok_or(NotConvertible)?;
    }
    Ok(number)
}

/// `Character.digit` to base ten, for the characters of one UTF-16 unit: others are two to Java, and neither is a digit.
fn digit(character: char) -> Option<u8> {
    let code = u32::from(character);
    let zero = match ZEROS.binary_search(&code) {
        Ok(exact) => ZEROS[exact],
        Err(above) => *ZEROS.get(above.checked_sub(1)?)?,
    };
    u8::try_from(code - zero).ok().filter(|digit| *digit < 10)
}

/// The zeros of Unicode's decimal digits below U+10000; each has its nine behind it.
const ZEROS: [u32; 37] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66,
    0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50,
    0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
];

/// `Double.parseDouble`: with `NaN`, `Infinity`, hexadecimal digits, a letter for the type behind it, and spaces and
/// control characters around it.
pub(super) fn double(text: &str) -> Result<f64, NotConvertible> {
    let text = text.trim_matches(|character| character <= ' ');
    let (is_negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let number = match magnitude {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => f64::INFINITY,
        _ => {
            let digits = magnitude.strip_suffix(['d', 'D', 'f', 'F']);
            match magnitude.strip_prefix("0x").or_else(|| magnitude.strip_prefix("0X")) {
                // Its digits may end with such a letter as well, but its exponent must follow, and does not.
                Some(hexadecimal) => {
                    hexadecimal_double(hexadecimal.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(hexadecimal))
                }
                None => decimal_double(digits.unwrap_or(magnitude)),
            }
            .ok_or(NotConvertible)?
        }
    };
    Ok(if is_negative { -number } else { number })
}

/// Rust reads decimal digits as Java does, but other words and a sign too.
fn decimal_double(digits: &str) -> Option<f64> {
    let is_decimal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    let begins = digits.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
    (begins && digits.bytes().all(is_decimal)).then(|| digits.parse().ok())?
}

/// `1.8p3`, which stood behind `0x`: digits to base 16 times a power of two. Rounded once, to the nearest even.
fn hexadecimal_double(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if whole.len() + fraction.len() == 0 || !is_hexadecimal(whole) || !is_hexadecimal(fraction) {
        return None;
    }
    // A point with nothing behind it needs something in front, which was checked above.
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if exponent_digits.is_empty() || !exponent_digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = exponent_digits.parse().unwrap_or(i64::from(i32::MAX)).min(i32::MAX.into());
    let mut exponent = if exponent.starts_with('-') { -magnitude } else { magnitude };
    let mut mantissa: u64 = 0;
    for (place, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let is_fraction = place >= whole.len();
        if mantissa >> 59 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if is_fraction { 4 } else { 0 };
        } else {
            // Beyond what rounding looks at, it only matters whether there is anything.
            mantissa |= u64::from(digit != 0);
            exponent += if is_fraction { 0 } else { 4 };
        }
    }
    Some(scaled(mantissa, exponent))
}

/// `mantissa × 2^exponent`, rounded to the nearest even.
fn scaled(mantissa: u64, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // Where the highest bit stands, as a power of two; below 2^-1022 there are fewer bits.
    let shift = mantissa.leading_zeros();
    let top = exponent + 63 - i64::from(shift);
    if top > 1023 {
        return f64::INFINITY;
    }
    let normal = mantissa << shift;
    let kept = (53 + (top + 1022).min(0)).max(-1);
    // Half of the lowest that can be told apart, or less, is nothing.
    let Ok(kept) = u32::try_from(kept) else { return 0.0 };
    let dropped = 64 - kept;
    let (whole, rest) = (normal.checked_shr(dropped).unwrap_or(0), normal << kept);
    let half = 1 << 63;
    let is_up = rest > half || rest == half && whole & 1 == 1;
    // Adding one may carry into the exponent, which is what rounding up to a power of two is.
    let rounded = whole + u64::from(is_up);
    let biased = u64::try_from((top + 1022).max(0)).unwrap_or(0);
    let bits = if top >= -1022 { (biased << 52) + rounded } else { rounded };
    f64::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_java_s() {
        for (text, number) in [
            ("5", Some(5)),
            ("+5", Some(5)),
            ("-5", Some(-5)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("٣", Some(3)),
            ("１２", Some(12)),
            ("𝟏", None),
            ("²", None),
            ("", None),
            ("+", None),
            ("-", None),
            ("--5", None),
            (" 1", None),
            ("6L", None),
            ("5.0", None),
            ("1_000", None),
        ] {
            assert_eq!(long(text).ok(), number, "{text}");
        }
    }

    #[test]
    fn real_numbers_are_java_s() {
        for (text, number) in [
            ("5", Some(5.0)),
            (" +5.\t", Some(5.0)),
            ("-.5e1d", Some(-5.0)),
            ("1e3F", Some(1000.0)),
            ("1e400", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x1p3", Some(8.0)),
            ("0X1.8P-1d", Some(0.75)),
            ("0x.8p0", Some(0.5)),
            ("0x8.p0f", Some(8.0)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x1.fffffffffffff7p0", Some(2.0 - f64::EPSILON)),
            ("0x1.00000000000008p0", Some(1.0)),
            ("0x1.00000000000008000000000000000000001p0", Some(1.0 + f64::EPSILON)),
            ("0x123456789abcdef0123p0", Some(5.373_003_642_731_685e21)),
            ("0x1p-1074", Some(f64::from_bits(1))),
            ("0x1p-1075", Some(0.0)),
            ("0x1.8p-1075", Some(f64::from_bits(1))),
            ("0x0.fffffffffffff8p-1022", Some(f64::MIN_POSITIVE)),
            ("0x1.fffffffffffff8p1023", Some(f64::INFINITY)),
            ("0x1p99999999999", Some(f64::INFINITY)),
            ("0x0p99999999999", Some(0.0)),
            ("0x1p-99999999999", Some(0.0)),
            ("inf", None),
            ("nan", None),
            ("Infinityd", None),
            ("", None),
            (" ", None),
            (".", None),
            ("e5", None),
            ("1e", None),
            ("1e+", None),
            ("1dd", None),
            ("d", None),
            ("+-1", None),
            ("0x1", None),
            ("0x.p1", None),
            ("0xp1", None),
            ("0x1p", None),
            ("٣", None),
            ("1_0", None),
        ] {
            assert_eq!(double(text).ok(), number, "{text}");
        }
        assert!(double("NaN").unwrap().is_nan() && double("-NaN").unwrap().is_nan());
        assert!(double("-0").unwrap().is_sign_negative());
    }

    #[test]
    fn reals_are_ordered_as_java_orders_them() {
        let ascending = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 1.0, f64::INFINITY, f64::NAN];
        for (left, lower) in ascending.iter().enumerate() {
            for (right, upper) in ascending.iter().enumerate() {
                assert_eq!(order(*lower, *upper), left.cmp(&right), "{lower} {upper}");
            }
        }
        assert_eq!(order(-f64::NAN, f64::NAN), Ordering::Equal);
    }
}
