use super::*;
use proptest::prelude::*;

fn column(name: &str, ty: ColumnType) -> PgColumn {
    PgColumn { name: name.to_owned(), ty, equal_is_identical: true }
}

fn plan(columns: &[(&str, ColumnType)], predicate: Option<Predicate>) -> Plan {
    Plan {
        columns: columns.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect(),
        predicate,
        order_by: None,
        shuffle: false,
        limit: None,
        max_rows: 10,
        max_bytes: 1_000,
        max_seconds: 5,
    }
}

fn compare(column: &str, op: CompareOp, value: Literal) -> Predicate {
    Condition::Compare { column: column.to_owned(), op, value }
}

#[test]
fn the_statement_is_exactly_this() {
    let table = TableName::parse("public.a.b").unwrap();
    let columns = [
        column("id", ColumnType::Int64),
        column("\"; drop table", ColumnType::Text),
        column("price", ColumnType::Decimal { precision: 10, scale: 2 }),
        column("ratio", ColumnType::Numeric),
    ];
    let filter = Condition::And(vec![
        compare("\"; drop table", CompareOp::Ge, Literal::Text("'); --".to_owned())),
        Condition::Not(Box::new(Condition::In {
            column: "\"; drop table".to_owned(),
            values: vec![Literal::Text("NULL".to_owned()), Literal::Text("a\"\\,".to_owned())],
        })),
        Condition::Or(vec![
            Condition::IsNull { column: "ratio".to_owned(), negated: true },
            compare("ratio", CompareOp::Lt, Literal::Decimal("1.5".to_owned())),
        ]),
    ]);
    let mut plan = plan(&[("id", ColumnType::Int64), ("ratio", ColumnType::Numeric)], Some(filter));
    plan.order_by = Some("\"; drop table".to_owned());
    plan.limit = Some(3);
    let statement = statement("ab12", &table, &columns, &plan).unwrap();
    assert_eq!(
        statement.sql,
        "/* countersign trace=ab12 */ COPY (SELECT \"id\"::pg_catalog.int8, \"ratio\"::pg_catalog.text \
         FROM \"public\".\"a.b\" WHERE \
         (((\"\"\"; drop table\"::pg_catalog.text COLLATE pg_catalog.\"C\") >= \
         pg_catalog.current_setting('countersign.p1')::pg_catalog.text) AND \
         (NOT (\"\"\"; drop table\"::pg_catalog.text = ANY \
         (pg_catalog.current_setting('countersign.p2')::pg_catalog.text[]))) AND \
         ((NOT \"ratio\" IS NULL) OR (\"ratio\"::pg_catalog.numeric < \
         pg_catalog.current_setting('countersign.p3')::pg_catalog.numeric))) \
         ORDER BY (\"\"\"; drop table\"::pg_catalog.text COLLATE pg_catalog.\"C\") ASC NULLS LAST LIMIT 3) \
         TO STDOUT (FORMAT binary)"
    );
    assert_eq!(statement.values, ["'); --", "{\"NULL\",\"a\\\"\\\\,\"}", "1.5"]);
}

#[test]
fn types_of_the_catalog() {
    let check = |name: &str, modifier: i32, expected: ColumnType| {
        let ty = PgType {
            name: name.to_owned(),
            builtin: true,
            is_enum: false,
            modifier,
            element: None,
            element_builtin: false,
            element_is_enum: false,
        };
        assert_eq!(ty.column_type(), expected, "{name}({modifier})");
    };
    let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
    check("numeric", -1, ColumnType::Numeric);
    check("numeric", modifier(10, 2), ColumnType::Decimal { precision: 10, scale: 2 });
    check("numeric", modifier(38, 38), ColumnType::Decimal { precision: 38, scale: 38 });
    check("numeric", modifier(39, 2), ColumnType::Numeric);
    check("numeric", modifier(3, -2), ColumnType::Numeric);
    check("numeric", modifier(3, 5), ColumnType::Numeric);
    check("tsvector", -1, ColumnType::Unsupported("tsvector".to_owned()));
    check("time with time zone", -1, ColumnType::Unsupported("time with time zone".to_owned()));
}

#[test]
fn table_names_have_two_parts() {
    for name in ["people", ".people", "public.", "", ".", "a\0.b"] {
        assert_eq!(TableName::parse(name).err().map(|e| e.reason()), Some("unknown_table"), "{name:?}");
    }
}

proptest! {
    #[test]
    fn no_value_and_no_name_becomes_sql(name in "\\PC{1,20}", value in "\\PC{4,20}") {
        prop_assume!(!name.contains(&value));
        // The table's own quoted name, `"s"."t"`, holds these as well, and would be replaced below.
        prop_assume!(![".", "s", "t"].contains(&name.as_str()));
        let columns = [column(&name, ColumnType::Text)];
        let plan = plan(&[(&name, ColumnType::Text)], Some(compare(&name, CompareOp::Eq, Literal::Text(value.clone()))));
        let table = TableName::parse("s.t").unwrap();
        let statement = statement("00", &table, &columns, &plan).unwrap();
        prop_assert_eq!(&statement.values, &[value]);
        // Without its quoted names, nothing of the statement depends on them.
        let rest = statement.sql.replace(&quoted(&name), "\"x\"");
        prop_assert_eq!(rest, "/* countersign trace=00 */ COPY (SELECT \"x\"::pg_catalog.text FROM \"s\".\"t\" WHERE \
            (\"x\"::pg_catalog.text = pg_catalog.current_setting('countersign.p1')::pg_catalog.text) LIMIT 11) \
            TO STDOUT (FORMAT binary)");
    }
}
