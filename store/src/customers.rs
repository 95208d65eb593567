//! People who charge and pay.

use evm_domain::{CustomerId, Money, Timestamp};

use crate::engine::{Db, on};
use crate::{Result, id, new_id, random};

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// The id.
    pub id: CustomerId,
    /// E.164.
    pub phone: String,
    /// As the customer wrote it.
    pub name: String,
    /// As the customer wrote it.
    pub email: String,
    /// The prepaid balance.
    pub balance: Money,
    /// The root of the customer's event subjects.
    pub topic: String,
    /// When first seen.
    pub created_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    phone: String,
    name: String,
    email: String,
    balance: i64,
    topic: String,
    created_at: i64,
}

impl TryFrom<Row> for Customer {
    type Error = crate::StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Customer {
            id: id(&row.id)?,
            phone: row.phone,
            name: row.name,
            email: row.email,
            balance: Money(row.balance),
            topic: row.topic,
            created_at: Timestamp(row.created_at),
        })
    }
}

const COLUMNS: &str = "id, phone, name, email, balance, topic, created_at";

/// A customer by id.
pub async fn by_id(db: &mut Db, customer: CustomerId) -> Result<Option<Customer>> {
    let row: Option<Row> = on!(db, conn => {
        let mut sql = sqlx::QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM customers WHERE id = ").push_bind(customer.to_string());
        sql.build_query_as().fetch_optional(conn).await?
    });
    row.map(Customer::try_from).transpose()
}

/// The customer with this phone (E.164), a new one where there is none.
pub async fn of_phone(db: &mut Db, phone: &str, now: Timestamp) -> Result<Customer> {
    // No update of a known one: its lock would wait for a charge that is being settled, which may wait for this login.
    let row: Row = on!(db, conn => {
        sqlx::query("INSERT INTO customers (id, phone, topic, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (phone) DO NOTHING")
            .bind(new_id().to_string())
            .bind(phone)
            .bind(format!("ev.{}", hex::encode(random::<16>())))
            .bind(now.0)
            .execute(&mut *conn)
            .await?;
        let mut sql = sqlx::QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM customers WHERE phone = ").push_bind(phone);
        sql.build_query_as().fetch_one(conn).await?
    });
    row.try_into()
}

/// The id of the customer with this phone (E.164), where there is one.
pub async fn id_of_phone(db: &mut Db, phone: &str) -> Result<Option<CustomerId>> {
    let row: Option<(String,)> = on!(db, conn => {
        sqlx::query_as("SELECT id FROM customers WHERE phone = $1").bind(phone).fetch_optional(conn).await?
    });
    row.map(|(customer,)| id(&customer)).transpose()
}

/// A customer's balance, locked until the transaction ends.
pub async fn lock_balance(db: &mut Db, customer: CustomerId) -> Result<Option<Money>> {
    let lock = db.for_update();
    let row: Option<(i64,)> = on!(db, conn => {
        let mut sql = sqlx::QueryBuilder::new("SELECT s.balance FROM customers s WHERE s.id = ");
        sql.push_bind(customer.to_string()).push(lock);
        sql.build_query_as().fetch_optional(conn).await?
    });
    Ok(row.map(|(balance,)| Money(balance)))
}

/// Changes what the customer says of themself.
pub async fn set_info(db: &mut Db, customer: CustomerId, name: &str, email: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE customers SET name = $2, email = $3 WHERE id = $1")
            .bind(customer.to_string())
            .bind(name)
            .bind(email)
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Where to push, as told in this login; a token belongs to its newest customer.
pub async fn set_push_token(db: &mut Db, customer: CustomerId, login: &str, token: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query("UPDATE customers SET fcm_token = NULL, fcm_login = NULL WHERE fcm_token = $2 AND id <> $1")
            .bind(customer.to_string())
            .bind(token)
            .execute(&mut *conn)
            .await?;
        sqlx::query("UPDATE customers SET fcm_token = $2, fcm_login = $3 WHERE id = $1")
            .bind(customer.to_string())
            .bind(token)
            .bind(login)
            .execute(&mut *conn)
            .await?;
    });
    Ok(())
}
