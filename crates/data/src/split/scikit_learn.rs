//! scikit-learn's `train_test_split`.

use crate::error::{Error, Result};
use crate::numpy_random::permutation;

/// Splits `0..n` into training and test indices, with the order and sizes of scikit-learn's
/// `train_test_split(range(n), test_size=test_size, random_state=random_state)`: shuffled, not stratified.
///
/// `test_size` is a share in the open interval (0, 1); the test side gets `ceil(n * test_size)` of them.
///
/// # Errors
///
/// [`Error::Invalid`] if `test_size` is outside of (0, 1) or one side would be empty.
///
/// # Examples
///
/// ```
/// let (train, test) = firstsight_data::train_test_split(10, 0.2, 123)?;
/// assert_eq!((train, test), (vec![7, 5, 8, 3, 1, 6, 9, 2], vec![4, 0]));
/// # Ok::<(), firstsight_data::Error>(())
/// ```
pub fn train_test_split(n: usize, test_size: f64, random_state: u32) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(test_size > 0.0 && test_size < 1.0) {
        return Err(Error::invalid("test_size", "a share between 0 and 1, both excluded", test_size));
    }
    let n_test = (n as f64 * test_size).ceil() as usize;
    if n_test == 0 || n_test >= n {
        let expected = format!("a share that leaves examples on both sides of {n}");
        return Err(Error::invalid("test_size", expected, test_size));
    }
    let mut test = permutation(n, random_state);
    let train = test.split_off(n_test);
    Ok((train, test))
}
