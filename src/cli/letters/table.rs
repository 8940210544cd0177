//! A table that is printed while its rows come: the first rows decide how wide the columns are.

use crate::cli::output::{columns_of, cut, plain};

/// Rows that are held back to see how wide they are.
const HELD: usize = 100;
/// What the last column has at least, where others can be made narrower.
const LAST: usize = 18;
/// What a column can be made narrow to.
const NARROW: usize = 8;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// The most it takes of a line that is bounded; the last one takes the rest.
    pub most: usize,
    /// Whether its cells end at the same place rather than begin there.
    pub is_number: bool,
}

/// A table. Where its width is bounded, cells are cut to fit.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    width: Option<usize>,
    held: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl Table {
    /// An empty one.
    pub fn new(columns: Vec<Column>, width: Option<usize>) -> Self {
        Self { columns, width, held: Vec::new(), widths: None }
    }

    /// Takes a row; what can be printed now.
    pub fn row(&mut self, row: &[String]) -> String {
        let row: Vec<String> = row.iter().map(|cell| plain(cell).into_owned()).collect();
        match &self.widths {
            Some(widths) => self.line(widths, &row),
            None => {
                self.held.push(row);
                if self.held.len() < HELD { String::new() } else { self.settle() }
            }
        }
    }

    /// Decides on the widths, if there is a row: what was held back until now.
    pub fn settle(&mut self) -> String {
        if self.held.is_empty() {
            return String::new();
        }
        let held = std::mem::take(&mut self.held);
        let widths = self.fit(&held);
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        let lines = std::iter::once(&titles).chain(&held).map(|row| self.line(&widths, row)).collect();
        self.widths = Some(widths);
        lines
    }

    fn fit(&self, rows: &[Vec<String>]) -> Vec<usize> {
        let natural = |(number, column): (usize, &Column)| {
            let cells = rows.iter().map(|row| columns_of(&row[number]));
            cells.max().unwrap_or(0).max(columns_of(column.title))
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(natural).collect();
        let Some(width) = self.width else { return widths };
        for (natural, column) in widths.iter_mut().zip(&self.columns) {
            *natural = (*natural).min(column.most.max(columns_of(column.title)));
        }
        let last = widths.len() - 1;
        let taken = |widths: &[usize]| widths[..last].iter().sum::<usize>() + 2 * last;
        // The widest that may shrink gives way, a column at a time.
        while taken(&widths) + LAST > width {
            let shrinks = |at: &usize| widths[*at] > NARROW && self.columns[*at].most > 13;
            let Some(widest) = (0..last).filter(shrinks).max_by_key(|at| widths[*at]) else { break };
            widths[widest] -= 1;
        }
        widths[last] = width.saturating_sub(taken(&widths)).max(NARROW);
        widths
    }

    fn line(&self, widths: &[usize], row: &[String]) -> String {
        let mut line = String::new();
        let last = widths.len() - 1;
        for (number, ((cell, width), column)) in row.iter().zip(widths).zip(&self.columns).enumerate() {
            let cell = if self.width.is_some() { cut(cell, *width) } else { cell.into() };
            let fill = std::iter::repeat_n(' ', width.saturating_sub(columns_of(&cell)));
            if column.is_number {
                line.extend(fill);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.extend(fill.filter(|_| number < last));
            }
            line.push_str(if number < last { "  " } else { "" });
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}
