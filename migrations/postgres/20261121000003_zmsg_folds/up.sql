-- Folds, applied by the server: what an operation, or a run of them, makes of a column.
--
-- Three functions, overloaded by the type of the column; a domain counts as its base type.
--   zmsg_add(column, b)         column + b
--   zmsg_counter(column, a, b)  a * column + b; exact in between, only the result must fit
--   zmsg_fold(column, fold)     a fold as zmsg encodes it: [version, family, ...]
-- NULL counts as zero, as the empty array and as the empty object. What does not fit is refused
-- with a message that shows no value.

-- Whole numbers.

CREATE FUNCTION zmsg_add(base smallint, b bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (coalesce(base, 0) + b)::smallint $$;

CREATE FUNCTION zmsg_add(base integer, b bigint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (coalesce(base, 0) + b)::integer $$;

CREATE FUNCTION zmsg_add(base bigint, b bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT coalesce(base, 0) + b $$;

CREATE FUNCTION zmsg_counter(base smallint, a numeric, b numeric) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (coalesce(base, 0) * a + b)::smallint $$;

CREATE FUNCTION zmsg_counter(base integer, a numeric, b numeric) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (coalesce(base, 0) * a + b)::integer $$;

CREATE FUNCTION zmsg_counter(base bigint, a numeric, b numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (coalesce(base, 0) * a + b)::bigint $$;

CREATE FUNCTION zmsg_fold(base bigint, fold jsonb) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  CASE fold ->> 1
    WHEN 'zero' THEN RETURN 0;
    WHEN 'counter' THEN RETURN coalesce(base, 0) * (fold ->> 2)::numeric + (fold ->> 3)::numeric;
    WHEN 'float' THEN
      RAISE EXCEPTION USING MESSAGE =
        'a float operation on an integer column; write the number as an integer, as in inc(1)';
    ELSE
      RAISE EXCEPTION USING MESSAGE = 'a column of JSON was expected, and this is a number';
  END CASE;
END $$;

CREATE FUNCTION zmsg_fold(base smallint, fold jsonb) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_fold(base::bigint, fold)::smallint $$;

CREATE FUNCTION zmsg_fold(base integer, fold jsonb) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_fold(base::bigint, fold)::integer $$;

-- Decimals: exact. A float is taken for the shortest decimal that reads back as it.

CREATE FUNCTION zmsg_counter(base numeric, a numeric, b numeric) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF base IN ('NaN', 'Infinity', '-Infinity') THEN
    RAISE EXCEPTION USING MESSAGE = 'a counter''s column does not hold a number';
  END IF;
  RETURN coalesce(base, 0) * a + b;
END $$;

CREATE FUNCTION zmsg_add(base numeric, b bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_counter(base, 1::numeric, b::numeric) $$;

CREATE FUNCTION zmsg_fold(base numeric, fold jsonb) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  x numeric;
  step jsonb;
BEGIN
  CASE fold ->> 1
    WHEN 'zero' THEN RETURN 0;
    WHEN 'counter' THEN
      RETURN zmsg_counter(base, (fold ->> 2)::numeric, (fold ->> 3)::numeric);
    WHEN 'float' THEN
      x := coalesce((fold ->> 2)::numeric, base, 0);
      IF x IN ('NaN', 'Infinity', '-Infinity') THEN
        RAISE EXCEPTION USING MESSAGE = 'a counter''s column does not hold a number';
      END IF;
      FOR step IN SELECT jsonb_array_elements(fold -> 3) LOOP
        CASE step ->> 0
          WHEN '+' THEN x := x + (step ->> 1)::numeric;
          WHEN '*' THEN x := x * (step ->> 1)::numeric;
          WHEN '=' THEN x := (step ->> 1)::numeric;
        END CASE;
      END LOOP;
      RETURN x;
    ELSE
      RAISE EXCEPTION USING MESSAGE = 'a column of JSON was expected, and this is a number';
  END CASE;
END $$;

-- Floats: step by step, each rounded as the column would.

CREATE FUNCTION zmsg_add(base double precision, b bigint) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE =
    'an integer operation on a float column; write the number as a float, as in inc(1.0)';
END $$;

CREATE FUNCTION zmsg_add(base real, b bigint) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_add(base::double precision, b)::real $$;

CREATE FUNCTION zmsg_counter(base double precision, a numeric, b numeric) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_add(base, 0::bigint) $$;

CREATE FUNCTION zmsg_counter(base real, a numeric, b numeric) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_add(base, 0::bigint) $$;

-- A product of floats. The server refuses one that is too small for a float; here it is zero.
CREATE FUNCTION zmsg_product(x double precision, y double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN x * y;
EXCEPTION WHEN numeric_value_out_of_range THEN
  IF abs(x) < 1 OR abs(y) < 1 THEN
    RETURN 0;
  END IF;
  RAISE;
END $$;

CREATE FUNCTION zmsg_fold(base double precision, fold jsonb) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  x double precision;
  step jsonb;
BEGIN
  CASE fold ->> 1
    WHEN 'zero' THEN RETURN 0;
    WHEN 'counter' THEN RETURN zmsg_add(base, 0::bigint);
    WHEN 'float' THEN
      x := coalesce((fold ->> 2)::double precision, base, 0);
      FOR step IN SELECT jsonb_array_elements(fold -> 3) LOOP
        CASE step ->> 0
          WHEN '+' THEN x := x + (step ->> 1)::double precision;
          WHEN '*' THEN x := zmsg_product(x, (step ->> 1)::double precision);
          WHEN '=' THEN x := (step ->> 1)::double precision;
        END CASE;
      END LOOP;
      IF x IN ('NaN', 'Infinity', '-Infinity') THEN
        RAISE EXCEPTION USING MESSAGE =
          'counter leaves the range of a 64-bit float';
      END IF;
      -- Adding zero drops the sign of a zero.
      RETURN x + 0;
    ELSE
      RAISE EXCEPTION USING MESSAGE = 'a column of JSON was expected, and this is a number';
  END CASE;
END $$;

CREATE FUNCTION zmsg_fold(base real, fold jsonb) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_fold(base::double precision, fold)::real $$;

-- JSON.

-- One place of a document: [value] replaces it, null deletes it, an object changes its keys.
CREATE FUNCTION zmsg_patch(place jsonb, patch jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  CASE jsonb_typeof(patch)
    WHEN 'array' THEN RETURN patch -> 0;
    WHEN 'null' THEN RETURN patch;
    ELSE NULL;
  END CASE;
  IF place IS NULL OR jsonb_typeof(place) <> 'object' THEN
    place := '{}';
  END IF;
  RETURN (
    SELECT place
        - coalesce(array_agg(key) FILTER (WHERE jsonb_typeof(value) = 'null'), '{}')
        || coalesce(
          jsonb_object_agg(key, CASE jsonb_typeof(value)
            WHEN 'array' THEN value -> 0
            ELSE zmsg_patch(place -> key, value)
          END) FILTER (WHERE jsonb_typeof(value) <> 'null'), '{}')
    FROM jsonb_each(patch)
  );
END $$;

-- An array: emptied or not, elements removed, elements appended.
CREATE FUNCTION zmsg_slice(elements jsonb, cleared boolean, removed jsonb, appended jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF jsonb_typeof(elements) <> 'array' THEN
    RAISE EXCEPTION USING MESSAGE =
        'a slice''s column does not hold a JSON array but this: ' || jsonb_typeof(elements);
  END IF;
  IF cleared OR elements IS NULL THEN
    elements := '[]';
  ELSIF jsonb_array_length(removed) > 0 THEN
    elements := (
      SELECT coalesce(jsonb_agg(element ORDER BY place), '[]')
      FROM jsonb_array_elements(elements) WITH ORDINALITY AS e (element, place)
      WHERE element NOT IN (SELECT jsonb_array_elements(removed))
    );
  END IF;
  RETURN elements || appended;
END $$;

CREATE FUNCTION zmsg_fold(base jsonb, fold jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  CASE fold ->> 1
    WHEN 'slice' THEN RETURN zmsg_slice(base, (fold ->> 2)::boolean, fold -> 3, fold -> 4);
    WHEN 'map' THEN
      IF jsonb_typeof(base) <> 'object' THEN
        RAISE EXCEPTION USING MESSAGE =
        'a map''s column does not hold a JSON object but this: ' || jsonb_typeof(base);
      END IF;
      RETURN zmsg_patch(base, fold -> 2);
    WHEN 'merge' THEN RETURN zmsg_patch(base, fold -> 2);
    ELSE
      RAISE EXCEPTION USING MESSAGE = 'a counter''s column does not hold a number';
  END CASE;
END $$;

CREATE FUNCTION zmsg_fold(base json, fold jsonb) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_fold(base::jsonb, fold)::json $$;

CREATE FUNCTION zmsg_fold(base text, fold jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_fold(base::jsonb, fold)::text $$;

-- Every other type.

CREATE FUNCTION zmsg_add(base anyelement, b bigint) RETURNS anyelement
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE =
    'a counter''s column does not hold a number but this: ' || pg_typeof(base);
END $$;

CREATE FUNCTION zmsg_counter(base anyelement, a numeric, b numeric) RETURNS anyelement
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT zmsg_add(base, 0::bigint) $$;

CREATE FUNCTION zmsg_fold(base anyelement, fold jsonb) RETURNS anyelement
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE =
    'operations do not fold into a column of this type: ' || pg_typeof(base);
END $$;

-- The rows that an operation met; refused if it met none although it was to insert one.
CREATE FUNCTION zmsg_met(met bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  IF met = 0 THEN
    RAISE EXCEPTION USING MESSAGE =
      'the missing row could not be inserted: another row has one of its unique values';
  END IF;
  RETURN met;
END $$;
