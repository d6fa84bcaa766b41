//! Confident learning: which labels are probably wrong, from out-of-fold probabilities.

/// A label that is probably wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelIssue {
    /// Index of the example.
    pub index: usize,
    /// The class that it more probably has.
    pub suggested: u32,
    /// The probability of its label: the lower, the surer is the issue.
    pub self_confidence: f32,
    /// The probability of the suggested class less that of the label.
    pub margin: f32,
}

/// The result of [`confident_learning`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidentLearning {
    /// The probability from which on an example counts as one of a class, by class: the mean probability of the class among
    /// the examples labeled so. Infinite for a class without examples.
    pub thresholds: Vec<f64>,
    /// The estimated number of examples by (label, true class), row by row.
    pub joint: Vec<f64>,
    /// The labels that are probably wrong, the surest first.
    pub issues: Vec<LabelIssue>,
}

/// Finds labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating
/// Uncertainty in Dataset Labels", JAIR 70, 2021), pruning by noise rate and ranked by self-confidence, as cleanlab's
/// `find_label_issues` does by default.
///
/// `probabilities` (N, `n_classes`), row by row, are those that a network gives to examples that it was not trained on. An example
/// is counted as one of the most probable class among those whose threshold it reaches. The counts by label and class, scaled
/// to the numbers of labels, estimate how many examples of each class have each label; that many are taken, by the largest
/// margin between the two probabilities. An example whose label is its most probable class is never an issue.
///
/// # Panics
///
/// If a label is not less than `n_classes`, or there are fewer probabilities than labels have.
///
/// # Examples
///
/// ```
/// use firstsight_transfer::check::confident_learning;
///
/// // Six examples of two classes; the network is sure that the third is of the other class.
/// let probabilities = [0.9, 0.1, 0.8, 0.2, 0.1, 0.9, 0.2, 0.8, 0.1, 0.9, 0.3, 0.7];
/// let found = confident_learning(&probabilities, &[0, 0, 0, 1, 1, 1], 2);
/// assert_eq!(found.issues.len(), 1);
/// assert_eq!((found.issues[0].index, found.issues[0].suggested), (2, 1));
/// ```
pub fn confident_learning(probabilities: &[f32], labels: &[u32], n_classes: usize) -> ConfidentLearning {
    let row = |i: usize| &probabilities[i * n_classes..][..n_classes];
    let mut counts = vec![0usize; n_classes];
    let mut thresholds = vec![0.0; n_classes];
    for (i, &label) in labels.iter().enumerate() {
        counts[label as usize] += 1;
        thresholds[label as usize] += f64::from(row(i)[label as usize]);
    }
    for (threshold, &n) in thresholds.iter_mut().zip(&counts) {
        *threshold = if n == 0 { f64::INFINITY } else { *threshold / n as f64 };
    }

    let mut joint = vec![0.0; n_classes * n_classes];
    for (i, &label) in labels.iter().enumerate() {
        let confident =
            row(i).iter().enumerate().filter(|&(class, &p)| f64::from(p) >= thresholds[class] - 1e-6);
        if let Some((class, _)) = confident.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))) {
            joint[label as usize * n_classes + class] += 1.0;
        }
    }
    for (of_label, &n) in joint.chunks_exact_mut(n_classes.max(1)).zip(&counts) {
        let sum: f64 = of_label.iter().sum();
        of_label.iter_mut().for_each(|count| *count *= n as f64 / sum.max(1.0));
    }

    let mut by_label = vec![Vec::new(); n_classes];
    for (i, &label) in labels.iter().enumerate() {
        by_label[label as usize].push(i);
    }
    let mut is_issue = vec![false; labels.len()];
    for (label, examples) in by_label.iter_mut().enumerate().filter(|(_, examples)| examples.len() > 1) {
        let counts = joint[label * n_classes..][..n_classes].iter().map(|count| count.round() as usize);
        for (class, n) in counts.enumerate().filter(|&(class, n)| class != label && n > 0) {
            let margin = |i: usize| row(i)[class] - row(i)[label];
            examples.sort_by(|&a, &b| margin(b).total_cmp(&margin(a)).then(a.cmp(&b)));
            examples.iter().take(n).for_each(|&i| is_issue[i] = true);
        }
    }
    let issue = |index: usize| {
        let label = labels[index] as usize;
        let (suggested, &p) = row(index).iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let self_confidence = row(index)[label];
        (p > self_confidence).then_some(LabelIssue {
            index,
            suggested: suggested as u32,
            self_confidence,
            margin: p - self_confidence,
        })
    };
    let mut issues: Vec<LabelIssue> = (0..labels.len()).filter(|&i| is_issue[i]).filter_map(issue).collect();
    issues.sort_by(|a, b| a.self_confidence.total_cmp(&b.self_confidence).then(a.index.cmp(&b.index)));
    ConfidentLearning { thresholds, joint, issues }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_labels_are_suspected_than_the_joint_estimates_and_none_without_confidence() {
        // Every example is as likely of each class: nothing is confident of another class than its own.
        let even = confident_learning(&[0.5; 20], &[0, 0, 0, 0, 0, 1, 1, 1, 1, 1], 2);
        assert_eq!(even.issues, []);
        let nothing = confident_learning(&[], &[], 3);
        assert!(nothing.issues.is_empty() && nothing.thresholds.iter().all(|t| t.is_infinite()));
    }

    #[test]
    fn the_largest_margin_is_the_largest_difference() {
        let mut probabilities = [[0.9, 0.05, 0.05]; 4].concat();
        probabilities.extend([[0.1, 0.85, 0.05]; 4].concat());
        // The first is one of class 1. The second is twenty times as likely of class 1 as of its own, and little of either.
        probabilities.extend([0.1, 0.9, 0.0, 0.01, 0.2, 0.79]);
        let found = confident_learning(&probabilities, &[0, 0, 0, 0, 1, 1, 1, 1, 0, 0], 3);
        let indices: Vec<usize> = found.issues.iter().map(|issue| issue.index).collect();
        assert_eq!(indices, [8]);
    }

    #[test]
    fn swapped_labels_are_found_the_surest_first() {
        // 40 examples of 4 classes, told apart with 0.7 to 0.97; five are labeled as the next class.
        let (mut probabilities, mut labels) = (Vec::new(), Vec::new());
        for i in 0..40usize {
            let class = i % 4;
            let p = 0.7 + 0.03 * (i / 4) as f32;
            probabilities.extend((0..4).map(|k| if k == class { p } else { (1.0 - p) / 3.0 }));
            labels.push(if i % 8 == 3 { 0 } else { class as u32 });
        }
        let found = confident_learning(&probabilities, &labels, 4);
        let indices: Vec<usize> = found.issues.iter().map(|issue| issue.index).collect();
        // Only those that reach the mean probability of their true class are counted.
        assert!(!indices.is_empty() && indices.iter().all(|i| i % 8 == 3), "{indices:?}");
        assert!(found.issues.iter().all(|issue| issue.suggested == 3));
        assert!(found.issues.is_sorted_by(|a, b| a.self_confidence <= b.self_confidence));
        let sum: f64 = found.joint.iter().sum();
        assert!((sum - 40.0).abs() < 1e-9, "{sum}");
    }
}
