//! Functions that statements about rows call. What one of the database's own people made may do anything, and the script does not show it.

use sqlparser::{keywords::Keyword, tokenizer::Token};

use crate::lint_sql::parse::word;

/// The databases' own that only compute or read; types with a length look the same.
const PURE: &str = "
    abs acos array_agg array_append array_cat array_length array_position array_remove array_replace array_to_string ascii asin atan atan2 avg
    bin bit bit_and bit_count bit_length bit_or bit_xor bool_and bool_or btrim cardinality cast ceil ceiling char char_length
    character_length chr coalesce concat concat_ws conv convert cos count crc32 cume_dist curdate current_date current_time
    current_timestamp curtime date date_add date_bin date_format date_part date_sub date_trunc datediff datetime day dayname dayofmonth
    dayofweek dayofyear decimal decode degrees dense_rank digest div elt encode every exists exp extract field find_in_set first_value
    float floor format from_days from_unixtime gen_random_uuid generate_series generate_subscripts greatest group_concat hex hour if
    ifnull inet_aton inet_ntoa initcap instr int isfinite isnull jsonb_agg json_agg json_array json_array_elements
    json_array_elements_text json_arrayagg json_build_array json_build_object json_contains json_contains_path json_each
    json_each_text json_extract json_extract_path json_extract_path_text json_insert json_keys json_length json_merge_patch
    json_merge_preserve json_object json_object_agg json_object_keys json_objectagg json_overlaps json_quote json_remove json_replace
    json_search json_set json_strip_nulls json_table json_type json_typeof json_unquote json_valid json_value jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
    jsonb_extract_path_text jsonb_insert jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_query jsonb_pretty jsonb_set
    jsonb_strip_nulls jsonb_to_recordset jsonb_typeof justify_days lag last_day last_value lcase lead least left length ln localtime
    localtimestamp locate log log10 log2 lower lpad ltrim make_date make_interval make_time make_timestamp make_timestamptz makedate
    maketime max md5 microsecond mid min minute mod month monthname now nth_value ntile nullif numeric octet_length ord overlay
    percent_rank percentile_cont percentile_disc period_add period_diff pg_get_serial_sequence pi point position pow power quarter
    quote quote_ident quote_literal quote_nullable radians rand random rank regexp_instr regexp_like regexp_match regexp_matches
    regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right round row_number row_to_json
    rpad rtrim schema sec_to_time second sha sha1 sha2 sha224 sha256 sha384 sha512 sign signed sin soundex space split_part sqrt
    starts_with std stddev stddev_pop stddev_samp str_to_date strcmp string_agg string_to_array strpos subdate substr substring
    substring_index subtime sum sysdate tan time time_format time_to_sec timediff timestamp timestampadd timestampdiff to_char to_date
    to_days to_hex to_json to_jsonb to_number to_timestamp transaction_timestamp translate trim trunc truncate ucase unhex unix_timestamp
    unnest unsigned upper utc_date utc_time utc_timestamp uuid uuid_generate_v4 uuid_to_bin var_pop var_samp varbinary varchar variance
    version week weekday weekofyear width_bucket year yearweek binary bin_to_uuid";

/// The databases' own that change something, wait, or reach out of the database.
const SIDE_EFFECTS: &str = "
    benchmark dblink dblink_connect dblink_exec get_lock load_file lo_creat lo_create lo_export lo_from_bytea lo_import lo_put lo_unlink
    master_pos_wait nextval pg_advisory_lock pg_advisory_xact_lock pg_cancel_backend pg_create_logical_replication_slot
    pg_create_physical_replication_slot pg_create_restore_point pg_drop_replication_slot pg_file_write pg_logical_emit_message pg_ls_dir
    pg_promote pg_read_binary_file pg_read_file pg_reload_conf pg_replication_slot_advance pg_rotate_logfile pg_sleep pg_sleep_for
    pg_sleep_until pg_start_backup pg_stop_backup pg_switch_wal pg_terminate_backend pg_wal_replay_pause query_to_xml
    query_to_xml_and_xmlschema release_all_locks set_config setval sleep source_pos_wait sys_eval sys_exec";

pub fn is_pure(name: &str) -> bool {
    PURE.split_whitespace().any(|f| f == name)
}

pub fn has_side_effects(name: &str) -> bool {
    SIDE_EFFECTS.split_whitespace().any(|f| f == name)
}

/// Words of the grammar that a parenthesis may follow.
const GRAMMAR: &[Keyword] = &[
    Keyword::ALL,
    Keyword::AND,
    Keyword::ANY,
    Keyword::ARRAY,
    Keyword::AS,
    Keyword::BETWEEN,
    Keyword::BY,
    Keyword::CASE,
    Keyword::CONFLICT,
    Keyword::COPY,
    Keyword::CUBE,
    Keyword::DISTINCT,
    Keyword::DESCRIBE,
    Keyword::ELSE,
    Keyword::EXCEPT,
    Keyword::EXISTS,
    Keyword::EXPLAIN,
    Keyword::FILTER,
    Keyword::FROM,
    Keyword::GROUP,
    Keyword::GROUPING,
    Keyword::HAVING,
    Keyword::IN,
    Keyword::INDEX,
    Keyword::INTERSECT,
    Keyword::INTO,
    Keyword::JOIN,
    Keyword::KEY,
    Keyword::LATERAL,
    Keyword::LIKE,
    Keyword::LIMIT,
    Keyword::MATERIALIZED,
    Keyword::NOT,
    Keyword::OFFSET,
    Keyword::ON,
    Keyword::OR,
    Keyword::OVER,
    Keyword::RETURNING,
    Keyword::ROLLUP,
    Keyword::ROW,
    Keyword::SELECT,
    Keyword::SET,
    Keyword::SETS,
    Keyword::SOME,
    Keyword::THEN,
    Keyword::UNION,
    Keyword::USING,
    Keyword::VALUES,
    Keyword::WHEN,
    Keyword::WHERE,
    Keyword::WITHIN,
];

/// What stands before a name with a list of columns.
const BEFORE_NAMES: &[&str] = &["as", "ignore", "insert", "into", "recursive", "with"];

/// Names of the functions that are called, in lower case: words before a parenthesis, but for the grammar's and for names with a list of columns.
pub fn calls(tokens: &[Token]) -> Vec<String> {
    let call = |i: usize| match (&tokens[i], tokens.get(i + 1)) {
        (Token::Word(w), Some(Token::LParen)) => {
            let grammar = w.quote_style.is_none() && GRAMMAR.contains(&w.keyword);
            (!grammar && !names_columns(&tokens[..i])).then(|| w.value.to_lowercase())
        }
        _ => None,
    };
    (0..tokens.len()).filter_map(call).collect()
}

/// Whether what stands before a name (and before its schema) makes it one of a table, a CTE or an alias.
fn names_columns(before: &[Token]) -> bool {
    let mut before = before;
    while let [rest @ .., Token::Word(_), Token::Period] = before {
        before = rest;
    }
    match before.last() {
        Some(Token::RParen) => true,
        Some(t) => word(t).is_some_and(|w| BEFORE_NAMES.iter().any(|b| w.eq_ignore_ascii_case(b))),
        None => false,
    }
}
