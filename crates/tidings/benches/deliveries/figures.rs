//! Medians, ratios and the tables that are printed. Knows nothing of what was measured.

/// The middle one; of an even number, the upper of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The value below which so many of a thousand are, of sorted ones.
pub(crate) fn quantile(sorted: &[u64], of_thousand: usize) -> u64 {
    let place = (sorted.len() * of_thousand / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

/// Each value of `above` by the one of `below` of the same round: `median (least–largest)`.
pub(crate) fn ratio(above: &[f64], below: &[f64]) -> String {
    let mut ratios: Vec<f64> = above.iter().zip(below).map(|(one, other)| one / other).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let least = ratios.first().copied().unwrap_or_default();
    let most = ratios.last().copied().unwrap_or_default();
    format!("{:.2} ({least:.2}–{most:.2})", median(&ratios))
}

/// A median with so many places.
pub(crate) fn middle(values: &[f64], places: usize) -> String {
    format!("{:.places$}", median(values))
}

/// Prints a table.
pub(crate) fn table(title: &str, heads: &[&str], rows: &[Vec<String>]) {
    println!("\n### {title}\n\n| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
