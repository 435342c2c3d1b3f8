/*
 * asterisk-dialog: JSON, read and written without allocation.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A strict reader of one JSON object (RFC 8259), and a writer into a bounded buffer.
 *
 * Pure: no allocation, socket, Asterisk. Time is linear in the length of the text.
 */

#ifndef FORK_JSON_H
#define FORK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*!
 * \brief Bytes of the UTF-8 character at `at`, which is before `end` (RFC 3629, section 4).
 * \param valid set to false when it is none: then so many bytes make one U+FFFD
 */
size_t fork_utf8_length(const char *at, const char *end, bool *valid);

/* ---- reading ---- */

/*! How deep arrays and objects may stand inside each other in a member of the object. */
#define FORK_JSON_DEPTH 8

enum fork_json_kind {
	FORK_JSON_NONE = 0,
	FORK_JSON_TEXT,
	FORK_JSON_NUMBER,
	FORK_JSON_TRUE,
	FORK_JSON_FALSE,
	FORK_JSON_NULL,
	FORK_JSON_NESTED, /*!< an array or an object */
};

/*! \brief A value where it stands in the text; of a string what is between its quotes. */
struct fork_json_value {
	enum fork_json_kind kind;
	const char *at;
	size_t length;
};

/*! \brief Goes through the members of one object; the text must outlive it. */
struct fork_json_reader {
	const char *start, *at, *end;
	const char *wrong; /*!< a sentence on what is wrong at `at`; NULL: nothing so far */
};

void fork_json_read(struct fork_json_reader *r, const char *text, size_t length);

/*!
 * \brief The next member, its syntax and its UTF-8 checked.
 *
 * Half a surrogate pair is refused, be it escaped; U+0000 is not: see fork_json_get_text().
 *
 * \retval false the object and the text are over, or `wrong` is set
 */
bool fork_json_next(struct fork_json_reader *r, struct fork_json_value *key,
	struct fork_json_value *value);

/*!
 * \brief A string with its escapes resolved, UTF-8, ended by a zero.
 * \retval false no string, or U+0000 is in it, or it has not fewer bytes than `size`
 */
bool fork_json_get_text(const struct fork_json_value *value, char *room, size_t size);

/*!
 * \brief A whole number.
 * \retval false none, or written with a point or an exponent, or not from `low` to `high`
 */
bool fork_json_get_int(const struct fork_json_value *value, int64_t low, int64_t high,
	int64_t *number);

/* ---- writing ---- */

/*!
 * \brief A JSON object being written; too long a one is cut off to nothing, never to half.
 *
 * fork_json_begin(&j, room, size, "digit"); fork_json_text(&j, "digit", "5");
 * fork_json_int(&j, "at_ms", 20); length = fork_json_done(&j);
 */
struct fork_json {
	char *at, *end;
	char *first;
	bool overflow;
	bool comma;     /*!< something stands before in this object */
};

void fork_json_begin(struct fork_json *j, char *room, size_t size, const char *type);
/*! \param value UTF-8 or not: what is no UTF-8 becomes U+FFFD; NULL as "" */
void fork_json_text(struct fork_json *j, const char *key, const char *value);
void fork_json_int(struct fork_json *j, const char *key, int64_t value);
void fork_json_bool(struct fork_json *j, const char *key, bool value);
/*! \brief Open an object in the object; close it with fork_json_close(). */
void fork_json_open(struct fork_json *j, const char *key);
void fork_json_close(struct fork_json *j);
/*! \return bytes written (no zero at the end), 0: it did not fit */
size_t fork_json_done(struct fork_json *j);

#endif /* FORK_JSON_H */
