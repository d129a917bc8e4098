//! How a recipient appears in a log: enough to recognise one's own test mail, too little to know a person.

use std::fmt;

use super::address::EmailAddress;

/// Writes `ann@example.com` as `a…@e…`. The only way an address may enter a log.
#[derive(Clone, Copy)]
pub struct Masked<'a>(pub &'a EmailAddress);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |text: &str| text.chars().next().unwrap_or('?');
        write!(f, "{}…@{}…", first(self.0.local()), first(self.0.domain()))
    }
}

impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_masked_recipient_keeps_one_letter_of_each_side() {
        for (address, masked) in
            [("ann@example.com", "a…@e…"), ("a@b", "a…@b…"), ("zoë@bücher.example", "z…@x…"), ("éa@b.example", "é…@b…")]
        {
            let address: EmailAddress = address.parse().unwrap();
            assert_eq!(Masked(&address).to_string(), masked);
            assert_eq!(format!("{:?}", Masked(&address)), masked);
        }
    }
}
