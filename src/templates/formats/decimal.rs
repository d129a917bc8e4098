//! A number as people write it: decimal digits, which a price keeps and a binary fraction does not.

/// Digits at most, on both sides of the point together.
pub(super) const DIGITS_MAX: usize = 40;

/// A decimal number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// 0 to 9, the first never 0 unless it is the only one before the point.
    digits: Vec<u8>,
    /// How many of them are behind the point.
    decimals: usize,
}

impl Decimal {
    /// Reads `-12.5` and `1.25e3`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = Vec::new();
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() || digits.len() >= DIGITS_MAX {
                return None;
            }
            digits.push(byte - b'0');
        }
        if digits.is_empty() {
            return None;
        }
        let decimals = i32::try_from(fraction.len()).ok()? - exponent;
        let max = i32::try_from(DIGITS_MAX).ok()?;
        if !(-max..=max).contains(&decimals) {
            return None;
        }
        let missing = usize::try_from(-decimals).unwrap_or_default();
        digits.extend(std::iter::repeat_n(0, missing));
        let decimals = usize::try_from(decimals).unwrap_or_default();
        while digits.len() <= decimals {
            digits.insert(0, 0);
        }
        while digits.len() > decimals + 1 && digits[0] == 0 {
            digits.remove(0);
        }
        (digits.len() <= 2 * DIGITS_MAX).then_some(Self { negative, digits, decimals })
    }

    /// Whether a minus is written.
    pub(super) fn is_negative(&self) -> bool {
        self.negative && self.digits.iter().any(|digit| *digit != 0)
    }

    /// Gives it so many decimals, rounding half away from zero.
    pub(super) fn set_decimals(&mut self, decimals: usize) {
        while self.decimals < decimals {
            self.digits.push(0);
            self.decimals += 1;
        }
        while self.decimals > decimals + 1 {
            self.digits.pop();
            self.decimals -= 1;
        }
        if self.decimals == decimals {
            return;
        }
        let up = self.digits.pop().is_some_and(|last| last >= 5);
        self.decimals = decimals;
        if !up {
            return;
        }
        for digit in self.digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.digits.insert(0, 1);
    }

    /// Gives it at most so many decimals, and none that are nothing.
    pub(super) fn at_most(&mut self, decimals: usize) {
        if self.decimals > decimals {
            self.set_decimals(decimals);
        }
        while self.decimals > 0 && self.digits.last() == Some(&0) {
            self.digits.pop();
            self.decimals -= 1;
        }
    }

    /// Its digits, grouped in threes when there are `group_from` or more before the point.
    pub(super) fn written(&self, group: &str, point: &str, group_from: usize) -> String {
        let whole = self.digits.len() - self.decimals;
        let mut written = String::new();
        for (index, digit) in self.digits.iter().enumerate() {
            if index == whole {
                written.push_str(point);
            } else if index > 0 && index < whole && whole >= group_from && (whole - index).is_multiple_of(3) {
                written.push_str(group);
            }
            written.push(char::from(b'0' + digit));
        }
        written
    }
}
