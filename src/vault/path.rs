//! x
pub fn is_plain_read(_path: &str) -> bool {
    false
}
