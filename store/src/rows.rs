//! Many values in one statement. SQLite takes them one by one; PostgreSQL as an array a column, so that the statement is the
//! same for any number of rows, and is parsed and planned once.

use sqlx::postgres::Postgres;
use sqlx::sqlite::Sqlite;
use sqlx::{Database, QueryBuilder};

/// One value.
pub(crate) enum Cell {
    Text(Option<String>),
    BigInt(Option<i64>),
    Int(i32),
    SmallInt(Option<i16>),
    Bool(bool),
}

macro_rules! cells {
    ($($from:ty, $value:ident => $cell:expr;)*) => {$(
        impl From<$from> for Cell {
            fn from($value: $from) -> Self {
                $cell
            }
        }
    )*};
}
cells! {
    String, text => Self::Text(Some(text));
    &str, text => Self::Text(Some(text.to_owned()));
    &String, text => Self::Text(Some(text.clone()));
    Option<String>, text => Self::Text(text);
    &Option<String>, text => Self::Text(text.clone());
    i64, number => Self::BigInt(Some(number));
    Option<i64>, number => Self::BigInt(number);
    i32, number => Self::Int(number);
    i16, number => Self::SmallInt(Some(number));
    Option<i16>, number => Self::SmallInt(number);
    bool, flag => Self::Bool(flag);
}

/// The values of one column.
enum Column {
    Text(Vec<Option<String>>),
    BigInt(Vec<Option<i64>>),
    Int(Vec<i32>),
    SmallInt(Vec<Option<i16>>),
    Bool(Vec<bool>),
}

impl Column {
    fn of(cell: Cell) -> Self {
        match cell {
            Cell::Text(text) => Self::Text(vec![text]),
            Cell::BigInt(number) => Self::BigInt(vec![number]),
            Cell::Int(number) => Self::Int(vec![number]),
            Cell::SmallInt(number) => Self::SmallInt(vec![number]),
            Cell::Bool(flag) => Self::Bool(vec![flag]),
        }
    }

    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Self::Text(all), Cell::Text(text)) => all.push(text),
            (Self::BigInt(all), Cell::BigInt(number)) => all.push(number),
            (Self::Int(all), Cell::Int(number)) => all.push(number),
            (Self::SmallInt(all), Cell::SmallInt(number)) => all.push(number),
            (Self::Bool(all), Cell::Bool(flag)) => all.push(flag),
            _ => unreachable!("one closure binds all rows, and a column's type is its value's"),
        }
    }
}

/// Takes the values of a row in the order of their columns.
#[derive(Default)]
pub(crate) struct Row {
    columns: Vec<Column>,
    next: usize,
    rows: usize,
}

impl Row {
    /// The next value.
    pub(crate) fn bind(&mut self, value: impl Into<Cell>) -> &mut Self {
        match self.columns.get_mut(self.next) {
            Some(column) => column.push(value.into()),
            None => self.columns.push(Column::of(value.into())),
        }
        self.next += 1;
        self
    }
}

/// How an engine is given them.
pub(crate) trait Engine: Database {
    /// A table of rows.
    fn push_table(sql: &mut QueryBuilder<Self>, rows: Row);
    /// A comparison with each of these.
    fn push_texts(sql: &mut QueryBuilder<Self>, list: Vec<String>);
    /// A comparison with each of these.
    fn push_numbers(sql: &mut QueryBuilder<Self>, list: Vec<i64>);
}

/// Pushes a row of each item, for `INSERT INTO … ` or `FROM (…) AS v`, where its columns are `column1` and so on.
pub(crate) fn push_rows<DB: Engine, T>(
    sql: &mut QueryBuilder<DB>,
    items: impl IntoIterator<Item = T>,
    mut fill: impl FnMut(&mut Row, T),
) {
    let mut rows = Row::default();
    for item in items {
        rows.next = 0;
        fill(&mut rows, item);
        rows.rows += 1;
    }
    DB::push_table(sql, rows);
}

/// Pushes the rest of a condition behind a column: whether it is one of these.
pub(crate) fn push_is_one_of<DB: Engine>(sql: &mut QueryBuilder<DB>, list: impl IntoIterator<Item = String>) {
    DB::push_texts(sql, list.into_iter().collect());
}

/// Pushes the rest of a condition behind a number: whether it is one of these.
pub(crate) fn push_is_one_of_numbers<DB: Engine>(sql: &mut QueryBuilder<DB>, list: &[i64]) {
    DB::push_numbers(sql, list.to_vec());
}

impl Engine for Postgres {
    fn push_table(sql: &mut QueryBuilder<Self>, rows: Row) {
        let count = rows.columns.len();
        sql.push("SELECT * FROM UNNEST(");
        let mut arrays = sql.separated(", ");
        for column in rows.columns {
            match column {
                Column::Text(all) => arrays.push_bind(all),
                Column::BigInt(all) => arrays.push_bind(all),
                Column::Int(all) => arrays.push_bind(all),
                Column::SmallInt(all) => arrays.push_bind(all),
                Column::Bool(all) => arrays.push_bind(all),
            };
        }
        let names: Vec<_> = (1..=count).map(|n| format!("column{n}")).collect();
        sql.push(") AS u (").push(names.join(", ")).push(")");
    }

    fn push_texts(sql: &mut QueryBuilder<Self>, list: Vec<String>) {
        sql.push(" = ANY(").push_bind(list).push(")");
    }

    fn push_numbers(sql: &mut QueryBuilder<Self>, list: Vec<i64>) {
        sql.push(" = ANY(").push_bind(list).push(")");
    }
}

impl Engine for Sqlite {
    fn push_table(sql: &mut QueryBuilder<Self>, mut rows: Row) {
        sql.push_values(0..rows.rows, |mut values, row| {
            for column in &mut rows.columns {
                match column {
                    Column::Text(all) => values.push_bind(std::mem::take(&mut all[row])),
                    Column::BigInt(all) => values.push_bind(all[row]),
                    Column::Int(all) => values.push_bind(all[row]),
                    Column::SmallInt(all) => values.push_bind(all[row]),
                    Column::Bool(all) => values.push_bind(all[row]),
                };
            }
        });
    }

    fn push_texts(sql: &mut QueryBuilder<Self>, list: Vec<String>) {
        sql.push(" IN (");
        let mut values = sql.separated(", ");
        for value in list {
            values.push_bind(value);
        }
        sql.push(")");
    }

    fn push_numbers(sql: &mut QueryBuilder<Self>, list: Vec<i64>) {
        sql.push(" IN (");
        let mut values = sql.separated(", ");
        for value in list {
            values.push_bind(value);
        }
        sql.push(")");
    }
}
