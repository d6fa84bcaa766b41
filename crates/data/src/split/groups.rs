//! Examples that must stay together.

/// The group of each example. A split puts all examples of a group on one side.
///
/// # Examples
///
/// ```
/// use firstsight_data::Groups;
///
/// let by_patient = Groups::new(["ann", "bob", "ann", "cem"]);
/// assert_eq!((by_patient.len(), by_patient.count()), (4, 3));
/// // The second and the fourth example are the same photo, so bob and cem become one group.
/// let by_photo = Groups::new([1, 2, 3, 2]);
/// assert_eq!(by_patient.joined(&by_photo).numbers(), [0, 1, 0, 1]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Numbered in the order of their first examples.
    numbers: Vec<usize>,
    count: usize,
}

impl Groups {
    /// Examples with equal keys are a group.
    pub fn new<K: Ord>(keys: impl IntoIterator<Item = K>) -> Self {
        let keys: Vec<K> = keys.into_iter().collect();
        // Sorted, which takes less memory than a table of the keys.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|&a, &b| keys[a].cmp(&keys[b]).then(a.cmp(&b)));
        let mut numbers = vec![0; keys.len()];
        for group in order.chunk_by(|&a, &b| keys[a] == keys[b]) {
            group.iter().for_each(|&i| numbers[i] = group[0]);
        }
        let mut count = 0;
        for i in 0..numbers.len() {
            let first = numbers[i];
            numbers[i] = if first == i { count } else { numbers[first] };
            count += usize::from(first == i);
        }
        Self { numbers, count }
    }

    /// `n` examples, each a group of its own.
    pub fn single(n: usize) -> Self {
        Self { numbers: (0..n).collect(), count: n }
    }

    /// Examples that are together in either, directly or through others, are a group. Both are groups of the same
    /// examples.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let mut sets = Sets::new(self.count);
        let mut first_of_other = vec![None; other.count];
        for (&group, &across) in self.numbers.iter().zip(&other.numbers) {
            sets.join(group, *first_of_other[across].get_or_insert(group));
        }
        Self::new(self.numbers.iter().map(|&group| sets.root(group)))
    }

    /// The group of each example, numbered from 0 in the order of their first examples.
    pub fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The number of groups.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Which of `n` things were joined, directly or through others. Each points to an earlier one that it is joined with, or to itself.
pub(crate) struct Sets(Vec<u32>);

impl Sets {
    pub(crate) fn new(n: usize) -> Self {
        Self((0..n as u32).collect())
    }

    /// The first of those that are joined with one.
    pub(crate) fn root(&self, mut one: usize) -> usize {
        while self.0[one] as usize != one {
            one = self.0[one] as usize;
        }
        one
    }

    /// Joins two. False if they are joined already.
    pub(crate) fn join(&mut self, one: usize, other: usize) -> bool {
        let (here, there) = (self.root(one), self.root(other));
        // The two themselves too, so that chains stay short.
        for place in [here, there, one, other] {
            self.0[place] = here.min(there) as u32;
        }
        here != there
    }
}
