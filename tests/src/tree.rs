//! The paper's central claim in the smallest world that shows it: a tree of depth H with |A| actions, an expert who knows
//! one way to one leaf, and a learner who plays the game of inverse reinforcement learning against an adversary.
//!
//! In every iteration of the game
//!
//! 1. the **adversary** takes the reward of its class that sets the expert furthest above the learner's policies so far;
//! 2. the **learner** plays one episode, ε-greedy, equal actions drawn alike: exploration without direction;
//! 3. **fitted Q** regresses once onto `r + max Q` over all rows that it has.
//!
//! The methods differ in what the learner is given, and in nothing else:
//!
//! | method | rows of the regression | episodes start |
//! |---|---|---|
//! | MM | the learner's | at the root |
//! | HyPE (its optimiser is HyQ) | the learner's and the expert's | at the root |
//! | FILTER | the learner's | in a state of the expert, drawn uniformly |
//!
//! With [`RewardClass::SingleLeaf`] the adversary can say no more than "end there": MM must find one of |A|^H leaves by chance
//! before its Q learns anything. The expert's rows tell HyPE at once, and one regression carries the news one level up; FILTER starts
//! often enough next to what it has learned. With [`RewardClass::PerStep`] the adversary pays the expert's first action, then
//! its second: it leads the learner by the hand, exploration is no longer the difficulty, and the gap is gone.
//!
//! An action is named by the node that it leads to: tree edges and nodes below the root are the same thing.

use trainer::run::rng::{Stream, Streams};

/// Share of random actions.
const EPSILON: f64 = 0.1;

/// A full tree; node 0 is its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// Actions in every inner node, |A|.
    pub actions: usize,
    /// Actions from the root to a leaf, H.
    pub depth: usize,
}

impl Tree {
    fn nodes(self) -> usize {
        (0..=self.depth).map(|level| self.actions.pow(level as u32)).sum()
    }

    fn children(self, node: usize) -> std::ops::Range<usize> {
        self.actions * node + 1..self.actions * node + 1 + self.actions
    }

    fn parent(self, node: usize) -> usize {
        (node - 1) / self.actions
    }

    fn is_leaf(self, node: usize) -> bool {
        self.children(node).start >= self.nodes()
    }
}

/// What the learner is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing beside the reward.
    Mm,
    /// The expert's rows in every regression.
    Hype,
    /// Starts in the expert's states.
    Filter,
}

/// What the adversary may choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewardClass {
    /// 1 for one leaf, 0 everywhere else.
    SingleLeaf,
    /// Any number from 0 to 1 for each state and action.
    PerStep,
}

/// What it took until the greedy policy was the expert's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Episodes played.
    pub episodes: u64,
    /// Steps taken in them.
    pub steps: u64,
}

/// Plays the game until the learner's greedy policy is the expert's, whose leaf `seed` draws.
pub fn play_until_matched(tree: Tree, method: Method, class: RewardClass, seed: u64) -> Matched {
    let mut random = Streams::new(seed).stream("tree");
    let expert = random_path(tree, &mut random);
    let mut learner = FittedQ::new(tree);
    if method == Method::Hype {
        expert.iter().for_each(|row| learner.add(*row));
    }
    let mut adversary = Adversary::new(class, &expert);
    let mut matched = Matched { episodes: 0, steps: 0 };
    loop {
        let reward = adversary.best_response(&learner);
        let mut node = match method {
            Method::Mm | Method::Hype => 0,
            Method::Filter => tree.parent(expert[random.index(expert.len())]),
        };
        while !tree.is_leaf(node) {
            node = learner.act(node, &mut random);
            learner.add(node);
            matched.steps += 1;
        }
        matched.episodes += 1;
        learner.regress(&expert, &reward);
        if learner.share_along(&expert).last() == Some(&1.0) {
            return matched;
        }
    }
}

fn random_path(tree: Tree, random: &mut Stream) -> Vec<usize> {
    let mut path = Vec::new();
    let mut node = 0;
    while !tree.is_leaf(node) {
        node = tree.children(node).start + random.index(tree.actions);
        path.push(node);
    }
    path
}

/// Chooses the reward. It knows the learner's policies exactly: the experiment measures how policies are learned, not
/// how well a discriminator sees.
struct Adversary<'a> {
    class: RewardClass,
    expert: &'a [usize],
    /// Sum over the learner's policies so far of the probability to take each of the expert's actions.
    visits: Vec<f64>,
    policies: f64,
}

impl<'a> Adversary<'a> {
    fn new(class: RewardClass, expert: &'a [usize]) -> Self {
        Self { class, expert, visits: vec![0.0; expert.len()], policies: 0.0 }
    }

    /// The reward of each of the expert's actions that maximises `J(expert) - J(learner)` over the class, the learner being the
    /// mean of its policies so far. Where the expert never goes a reward could only help the learner: it is 0 there.
    fn best_response(&mut self, learner: &FittedQ) -> Vec<f64> {
        self.policies += 1.0;
        for (sum, share) in self.visits.iter_mut().zip(learner.share_along(self.expert)) {
            *sum += share;
        }
        let last = self.expert.len() - 1;
        let pays =
            |step: usize| self.visits[step] < self.policies && (self.class == RewardClass::PerStep || step == last);
        (0..=last).map(|step| f64::from(pays(step))).collect()
    }
}

/// Q of every action, regressed onto rows.
struct FittedQ {
    tree: Tree,
    q: Vec<f64>,
    has_row: Vec<bool>,
    rows: Vec<usize>,
    /// Rows whose target may differ from their Q: regressing onto the others would change nothing.
    due: Vec<usize>,
    reward: Vec<f64>,
}

impl FittedQ {
    fn new(tree: Tree) -> Self {
        let nodes = tree.nodes();
        let (q, has_row) = (vec![0.0; nodes], vec![false; nodes]);
        Self { tree, q, has_row, rows: Vec::new(), due: Vec::new(), reward: Vec::new() }
    }

    /// Remembers a step. The tree is deterministic: the same row twice would say nothing new.
    fn add(&mut self, row: usize) {
        if !self.has_row[row] {
            self.has_row[row] = true;
            self.rows.push(row);
            self.due.push(row);
        }
    }

    fn best(&self, node: usize) -> f64 {
        self.tree.children(node).map(|action| self.q[action]).fold(f64::NEG_INFINITY, f64::max)
    }

    fn act(&self, node: usize, random: &mut Stream) -> usize {
        let (actions, best) = (self.tree.children(node), self.best(node));
        if random.unit() < EPSILON {
            return actions.start + random.index(self.tree.actions);
        }
        let equals = || actions.clone().filter(|action| self.q[*action] == best);
        equals().nth(random.index(equals().count())).unwrap()
    }

    /// Probability that the greedy policy, equal actions drawn alike, takes each of the actions along `path`.
    fn share_along(&self, path: &[usize]) -> Vec<f64> {
        let mut share = 1.0;
        let step = |action: &usize| {
            let node = self.tree.parent(*action);
            let best = self.best(node);
            let equals = self.tree.children(node).filter(|other| self.q[*other] == best).count();
            share *= if self.q[*action] == best { 1.0 / equals as f64 } else { 0.0 };
            share
        };
        path.iter().map(step).collect()
    }

    /// One regression of Q onto `r + max Q` over all rows; `reward` is that of the actions along `path`, 0 elsewhere.
    fn regress(&mut self, path: &[usize], reward: &[f64]) {
        let mut due = std::mem::take(&mut self.due);
        if self.reward != reward {
            self.reward = reward.to_vec();
            due.clone_from(&self.rows);
        }
        let target = |row: usize| {
            let reward = path.iter().position(|action| *action == row).map_or(0.0, |step| reward[step]);
            reward + if self.tree.is_leaf(row) { 0.0 } else { self.best(row) }
        };
        let targets: Vec<f64> = due.iter().map(|row| target(*row)).collect();
        for (row, target) in due.into_iter().zip(targets) {
            if self.q[row] != target {
                self.q[row] = target;
                let parent = self.tree.parent(row);
                if self.has_row[parent] {
                    self.due.push(parent);
                }
            }
        }
    }
}

/// Means over `seeds` games.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The tree.
    pub tree: Tree,
    /// Games played, seeds 0, 1, ….
    pub seeds: u64,
    /// Mean of the episodes.
    pub episodes: f64,
    /// Standard error of that mean.
    pub standard_error: f64,
    /// Mean of the steps.
    pub steps: f64,
}

/// Plays `seeds` games in each tree of `depths`.
pub fn measure(
    actions: usize,
    depths: impl IntoIterator<Item = usize>,
    method: Method,
    class: RewardClass,
    seeds: u64,
) -> Vec<Measured> {
    let one = |depth| {
        let tree = Tree { actions, depth };
        let games: Vec<Matched> = (0..seeds).map(|seed| play_until_matched(tree, method, class, seed)).collect();
        let mean = |of: fn(&Matched) -> f64| games.iter().map(of).sum::<f64>() / seeds as f64;
        let episodes = mean(|game| game.episodes as f64);
        let squares = games.iter().map(|game| (game.episodes as f64 - episodes).powi(2)).sum::<f64>();
        let standard_error = (squares / (seeds as f64 - 1.0) / seeds as f64).sqrt();
        Measured { tree, seeds, episodes, standard_error, steps: mean(|game| game.steps as f64) }
    };
    depths.into_iter().map(one).collect()
}

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Its slope.
    pub slope: f64,
    /// Share of the points' variance that it explains.
    pub r_squared: f64,
}

/// The line through `y` of the measured points against `x` of them.
pub fn fit(points: &[Measured], x: impl Fn(&Measured) -> f64, y: impl Fn(&Measured) -> f64) -> Line {
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&Measured) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let xx = mean(&|p| (x(p) - mean_x).powi(2));
    let xy = mean(&|p| (x(p) - mean_x) * (y(p) - mean_y));
    let yy = mean(&|p| (y(p) - mean_y).powi(2));
    Line { slope: xy / xx, r_squared: if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_rows_that_cannot_change_changes_nothing() {
        let tree = Tree { actions: 3, depth: 5 };
        let mut random = Streams::new(7).stream("test");
        let path = random_path(tree, &mut random);
        let mut learner = FittedQ::new(tree);
        let mut plain = vec![0.0; tree.nodes()];
        for round in 0..200 {
            let mut node = 0;
            while !tree.is_leaf(node) {
                node = learner.act(node, &mut random);
                learner.add(node);
            }
            let reward: Vec<f64> = (0..path.len()).map(|step| if round > 50 { step as f64 } else { 1.0 }).collect();
            let before = plain.clone();
            for row in &learner.rows {
                let future = tree.children(*row).map(|a| before.get(a)).map(|q| q.copied().unwrap_or(0.0));
                let paid = path.iter().position(|action| action == row).map_or(0.0, |step| reward[step]);
                plain[*row] = paid + future.fold(f64::NEG_INFINITY, f64::max);
            }
            learner.regress(&path, &reward);
            assert_eq!(learner.q, plain, "round {round}");
        }
        assert!(learner.q.iter().any(|q| *q > 5.0));
    }

    #[test]
    fn a_line_is_recovered() {
        let point = |depth: usize, episodes| Measured {
            tree: Tree { actions: 2, depth },
            seeds: 2,
            episodes,
            standard_error: 0.0,
            steps: 0.0,
        };
        let points = [point(1, 5.0), point(2, 8.0), point(4, 14.0)];
        let line = fit(&points, |p| p.tree.depth as f64, |p| p.episodes);
        assert!((line.slope - 3.0).abs() < 1e-12 && (line.r_squared - 1.0).abs() < 1e-12, "{line:?}");
        let noisy = [point(1, 5.0), point(2, 9.0), point(3, 5.0)];
        assert!(fit(&noisy, |p| p.tree.depth as f64, |p| p.episodes).r_squared < 0.1);
    }
}
