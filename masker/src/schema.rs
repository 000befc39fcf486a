//! The types a table's columns can have, and how a frame represents each of them. Sources, filters and masks speak in these
//! types only; a store's type that has no place here is refused by the source that meets it, never guessed.

use crate::path::Step;
use polars::prelude::{DataType, Field, TimeUnit, TimeZone, UnknownKind};
use std::collections::HashSet;
use std::{fmt, str::FromStr};

/// The type of a column, named after what a user of PostgreSQL or Parquet would call it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// 8-bit signed integer (Parquet).
    Int8,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// 8-bit unsigned integer (Parquet).
    UInt8,
    /// 16-bit unsigned integer (Parquet).
    UInt16,
    /// 32-bit unsigned integer (Parquet).
    UInt32,
    /// 64-bit unsigned integer (Parquet).
    UInt64,
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 double precision.
    Float64,
    /// Exact number with at most 38 digits, `scale` of them after the point.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// Exact number without bounds (PostgreSQL `numeric` without a precision), represented by its text.
    Numeric,
    /// Text, UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// A day of the proleptic Gregorian calendar.
    Date,
    /// A time of day.
    Time,
    /// A timestamp without a time zone, in microseconds.
    Timestamp,
    /// A point in time, in microseconds, shown in UTC.
    TimestampTz,
    /// A UUID, represented by its lower-case hyphenated text.
    Uuid,
    /// JSON (PostgreSQL `json`, `jsonb`), represented by its text.
    Json,
    /// A PostgreSQL array, represented by its text (`{a,b}`).
    TextArray,
    /// A list of values of one type (Parquet).
    List(Box<ColumnType>),
    /// A struct of named fields (Parquet).
    Struct(Vec<(String, ColumnType)>),
    /// What has no representation here: the store's own name of the type, for messages. Such a column can't be fetched.
    Unsupported(String),
}

impl ColumnType {
    /// How a frame represents the type; `Unknown` for [`Unsupported`](Self::Unsupported), which no frame represents.
    pub fn dtype(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal(usize::from(*precision), usize::from(*scale)),
            Self::Numeric | Self::Text | Self::Uuid | Self::Json | Self::TextArray => DataType::String,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date,
            Self::Time => DataType::Time,
            Self::Timestamp => DataType::Datetime(TimeUnit::Microseconds, None),
            Self::TimestampTz => DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
            Self::List(inner) => DataType::List(Box::new(inner.dtype())),
            Self::Struct(fields) => {
                DataType::Struct(fields.iter().map(|(name, field)| Field::new(name.into(), field.dtype())).collect())
            }
            Self::Unsupported(_) => DataType::Unknown(UnknownKind::Any),
        }
    }

    /// Whether a frame's column of type `dtype` represents this type.
    pub fn is_represented_by(&self, dtype: &DataType) -> bool {
        self.dtype() == *dtype
    }

    /// The column type that a column of a Parquet or CSV file gets: the file source casts it to [`dtype`](Self::dtype)
    /// (dictionaries to text, timestamps of any unit to microseconds, fixed-size lists to lists). `None` for what has no place
    /// here, such as durations, 128-bit integers, timestamps of other zones than UTC, structs with two fields of one name, and
    /// nested types that hold any of these: refuse those by name.
    pub fn from_dtype(dtype: &DataType) -> Option<Self> {
        Some(match dtype {
            DataType::Boolean => Self::Bool,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal(precision, scale) => {
                Self::Decimal { precision: u8::try_from(*precision).ok()?, scale: u8::try_from(*scale).ok()? }
            }
            DataType::String | DataType::Categorical(..) | DataType::Enum(..) => Self::Text,
            DataType::Binary => Self::Binary,
            DataType::Date => Self::Date,
            DataType::Time => Self::Time,
            DataType::Datetime(_, None) => Self::Timestamp,
            DataType::Datetime(_, Some(zone)) if *zone == TimeZone::UTC => Self::TimestampTz,
            DataType::List(inner) | DataType::Array(inner, _) => Self::List(Box::new(Self::from_dtype(inner)?)),
            DataType::Struct(fields) => {
                let mut seen = HashSet::new();
                if !fields.iter().all(|field| seen.insert(field.name())) {
                    return None;
                }
                let fields =
                    fields.iter().map(|field| Some((field.name().to_string(), Self::from_dtype(field.dtype())?)));
                Self::Struct(fields.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// Whether the type is a list or struct.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Struct(_))
    }

    /// Whether the type is represented by text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Numeric | Self::Text | Self::Uuid | Self::Json | Self::TextArray)
    }

    /// Whether the type is an integer, and if so which values it holds.
    pub fn int_range(&self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Int8 => (i8::MIN.into(), i8::MAX.into()),
            Self::Int16 => (i16::MIN.into(), i16::MAX.into()),
            Self::Int32 => (i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => (i64::MIN.into(), i64::MAX.into()),
            Self::UInt8 => (0, u8::MAX.into()),
            Self::UInt16 => (0, u16::MAX.into()),
            Self::UInt32 => (0, u32::MAX.into()),
            Self::UInt64 => (0, u64::MAX.into()),
            _ => return None,
        })
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision}, {scale})"),
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::TextArray => "text_array",
            Self::List(inner) => return write!(f, "list({inner})"),
            Self::Struct(fields) => {
                f.write_str("struct(")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{} {field}", Step::name(name))?;
                }
                return f.write_str(")");
            }
            Self::Unsupported(name) => name,
        })
    }
}

/// A type name that [`ColumnType`] doesn't know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown type `{0}`, known are {KNOWN}")]
pub struct UnknownType(pub String);

const KNOWN: &str = "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, decimal(p, s), \
                     numeric, text, binary, date, time, timestamp, timestamptz, uuid, json, text_array";

impl FromStr for ColumnType {
    type Err = UnknownType;

    /// Parses what `Display` writes, nested types apart: nobody can state those.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        Ok(match text {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "numeric" => Self::Numeric,
            "text" => Self::Text,
            "binary" => Self::Binary,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "uuid" => Self::Uuid,
            "json" => Self::Json,
            "text_array" => Self::TextArray,
            _ => return decimal(text).ok_or_else(|| UnknownType(text.to_owned())),
        })
    }
}

fn decimal(text: &str) -> Option<ColumnType> {
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=38).contains(&precision) && scale <= precision).then_some(ColumnType::Decimal { precision, scale })
}

/// The columns of a table in the order of its source, each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSchema {
    /// Name and type of each column.
    pub columns: Vec<(String, ColumnType)>,
}

impl TableSchema {
    /// The type of the column `name`, or `None` if the table has no such column.
    pub fn column_type(&self, name: &str) -> Option<&ColumnType> {
        self.columns.iter().find(|(column, _)| column == name).map(|(_, column_type)| column_type)
    }
}
