//! Batches for a block of gradient steps, sent to the device together.

use super::Batch;
use crate::nn::stack::stack;
use crate::replay::Rows;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

/// The rows of several batches of all seeds, on the device.
#[derive(Debug)]
pub struct Block<B: Backend> {
    sizes: Vec<usize>,
    observations: Column<B>,
    actions: Column<B>,
    next_observations: Column<B>,
    task_rewards: Column<B>,
    continues: Column<B>,
}

impl<B: Backend> Block<B> {
    /// Sends each seed's sampled rows: `sizes[i]` of them make batch `i`, the same number for every seed.
    pub fn new(seeds: Vec<Rows>, sizes: Vec<usize>, device: &B::Device) -> Self {
        let mut columns: [Vec<Vec<f32>>; 5] = Default::default();
        for rows in seeds {
            let parts = [rows.observations, rows.actions, rows.next_observations, rows.task_rewards, rows.continues];
            columns.iter_mut().zip(parts).for_each(|(column, part)| column.push(part));
        }
        let [observations, actions, next_observations, task_rewards, continues] =
            columns.map(|seeds| Column::send(seeds, &sizes, device));
        Self { sizes, observations, actions, next_observations, task_rewards, continues }
    }

    /// Batch `index`, with the task's own rewards (not a number in expert rows).
    pub fn batch(&self, index: usize) -> Batch<B> {
        let take = |column: &Column<B>| column.take(&self.sizes, index);
        Batch {
            observation: take(&self.observations),
            action: take(&self.actions),
            reward: take(&self.task_rewards),
            next_observation: take(&self.next_observations),
            continues: take(&self.continues),
        }
    }
}

/// Rows for several batches of all seeds: batch by batch, within a batch seed by seed.
#[derive(Debug)]
pub struct Column<B: Backend> {
    values: Tensor<B, 1>,
    seeds: usize,
    width: usize,
}

impl<B: Backend> Column<B> {
    /// Sends each seed's rows, of which `sizes[i]` belong to batch `i`.
    pub fn send(seeds: Vec<Vec<f32>>, sizes: &[usize], device: &B::Device) -> Self {
        let (count, rows) = (seeds.len(), sizes.iter().sum::<usize>());
        let width = seeds[0].len() / rows;
        let pieces: Vec<usize> = sizes.iter().map(|size| size * width).collect();
        let values = stack(seeds, &pieces);
        let len = values.len();
        Self { values: Tensor::from_data(TensorData::new(values, [len]), device), seeds: count, width }
    }

    /// Batch `index` of the `sizes` given to [`Column::send`]: `[seeds, sizes[index], width]`.
    pub fn take(&self, sizes: &[usize], index: usize) -> Tensor<B, 3> {
        let row = self.seeds * self.width;
        let before: usize = sizes[..index].iter().sum();
        let part = self.values.clone().narrow(0, before * row, sizes[index] * row);
        part.reshape([self.seeds, sizes[index], self.width])
    }
}

/// One batch of each seed's `rows` rows: `[seeds, rows, width]`.
pub fn send<B: Backend>(seeds: Vec<Vec<f32>>, rows: usize, device: &B::Device) -> Tensor<B, 3> {
    Column::send(seeds, &[rows], device).take(&[rows], 0)
}
