//! Seeds side by side: how values of single seeds become one stacked vector, and come apart again.
//!
//! A vector of one seed consists of pieces (a layer's weights, a batch's rows); the stacked vector holds for each piece
//! all seeds' in a row, which is what a leading seeds axis in every piece means.

/// Stacks the seeds' vectors, each of `pieces` long pieces. One seed alone stays as it is.
pub fn stack<T: Copy>(mut seeds: Vec<Vec<T>>, pieces: &[usize]) -> Vec<T> {
    if seeds.len() == 1 {
        return seeds.remove(0);
    }
    let mut stacked = Vec::with_capacity(seeds.iter().map(Vec::len).sum());
    let mut start = 0;
    for piece in pieces {
        seeds.iter().for_each(|seed| stacked.extend_from_slice(&seed[start..start + piece]));
        start += piece;
    }
    stacked
}

/// Undoes [`stack`] of `seeds` vectors.
pub fn unstack<T: Copy>(stacked: Vec<T>, pieces: &[usize], seeds: usize) -> Vec<Vec<T>> {
    if seeds == 1 {
        return vec![stacked];
    }
    let mut parts = vec![Vec::with_capacity(stacked.len() / seeds); seeds];
    let mut rest = &stacked[..];
    for piece in pieces {
        for part in &mut parts {
            let (values, behind) = rest.split_at(*piece);
            part.extend_from_slice(values);
            rest = behind;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_seeds_lie_in_a_row() {
        let seeds = vec![vec![1, 2, 3], vec![10, 20, 30]];
        let stacked = stack(seeds.clone(), &[2, 1]);
        assert_eq!(stacked, [1, 2, 10, 20, 3, 30]);
        assert_eq!(unstack(stacked, &[2, 1], 2), seeds);
        assert_eq!(unstack(stack(vec![vec![7, 8]], &[2]), &[2], 1), [[7, 8]]);
    }
}
