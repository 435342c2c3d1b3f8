/*
 * asterisk-dialog: JSON, read and written without allocation.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_json.h"

#include <string.h>

size_t fork_utf8_length(const char *at, const char *end, bool *valid)
{
	unsigned char first = (unsigned char) *at, low = 0x80, high = 0xbf;
	size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

	*valid = first < 0x80;
	if (first < 0xc2 || first > 0xf4) {
		return 1;
	}
	/* The second byte alone keeps out overlong forms, surrogates and what is above U+10FFFF. */
	if (first == 0xe0) {
		low = 0xa0;
	} else if (first == 0xed) {
		high = 0x9f;
	} else if (first == 0xf0) {
		low = 0x90;
	} else if (first == 0xf4) {
		high = 0x8f;
	}
	for (size_t i = 1; i < length; i++) {
		unsigned char next = at + i < end ? (unsigned char) at[i] : 0;

		if (next < low || next > high) {
			return i;
		}
		low = 0x80;
		high = 0xbf;
	}
	*valid = true;
	return length;
}

static size_t utf8_encode(uint32_t code, char *room)
{
	static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	for (size_t i = length - 1; i; i--) {
		room[i] = (char) (0x80 | (code & 0x3f));
		code >>= 6;
	}
	room[0] = (char) (lead[length] | code);
	return length;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*! \brief The four hexadecimal digits of an escape. \retval false there are none */
static bool read_hex(const char *at, const char *end, uint32_t *unit)
{
	*unit = 0;
	if (end - at < 4) {
		return false;
	}
	for (int i = 0; i < 4; i++) {
		char lower = (char) (at[i] | 0x20);

		if (is_digit(at[i])) {
			*unit = *unit << 4 | (uint32_t) (at[i] - '0');
		} else if (lower >= 'a' && lower <= 'f') {
			*unit = *unit << 4 | (uint32_t) (lower - 'a' + 10);
		} else {
			return false;
		}
	}
	return true;
}

/*! \brief An escape, its backslash at `at`. \return its bytes, 0: none, or half a pair */
static size_t read_escape(const char *at, const char *end, uint32_t *code)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	const char *letter;
	uint32_t second;

	if (end - at < 2 || !at[1]) {
		return 0;
	}
	letter = strchr(letters, at[1]);
	if (letter) {
		*code = (unsigned char) meant[letter - letters];
		return 2;
	}
	if (at[1] != 'u' || !read_hex(at + 2, end, code) || (*code & 0xfc00) == 0xdc00) {
		return 0;
	}
	if ((*code & 0xfc00) != 0xd800) {
		return 6;
	}
	at += 6;
	if (end - at < 6 || at[0] != '\\' || at[1] != 'u' || !read_hex(at + 2, end, &second)
		|| (second & 0xfc00) != 0xdc00) {
		return 0;
	}
	*code = 0x10000 + ((*code & 0x3ff) << 10 | (second & 0x3ff));
	return 12;
}

static bool fail(struct fork_json_reader *r, const char *wrong)
{
	r->wrong = wrong;
	return false;
}

static void pass_blanks(struct fork_json_reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) {
		r->at++;
	}
}

/*! \brief Pass over blanks, and over `c` if it stands behind them. */
static bool pass(struct fork_json_reader *r, char c)
{
	pass_blanks(r);
	if (r->at == r->end || *r->at != c) {
		return false;
	}
	r->at++;
	return true;
}

/*! \brief The rest of a string, its first quote passed. */
static bool pass_text(struct fork_json_reader *r, struct fork_json_value *value)
{
	uint32_t code;
	bool valid = true;

	value->kind = FORK_JSON_TEXT;
	value->at = r->at;
	while (r->at < r->end && *r->at != '"') {
		size_t length = *r->at == '\\' ? read_escape(r->at, r->end, &code)
			: fork_utf8_length(r->at, r->end, &valid);

		if (!length) {
			return fail(r, "an escape of JSON is wanted, and no half of a surrogate pair");
		}
		if (!valid) {
			return fail(r, "UTF-8 is wanted");
		}
		if ((unsigned char) *r->at < ' ') {
			return fail(r, "a control character must be escaped");
		}
		r->at += length;
	}
	value->length = (size_t) (r->at - value->at);
	if (r->at == r->end) {
		return fail(r, "a closing quote is wanted");
	}
	r->at++;
	return true;
}

static bool pass_digits(struct fork_json_reader *r)
{
	const char *first = r->at;

	while (r->at < r->end && is_digit(*r->at)) {
		r->at++;
	}
	return r->at > first || fail(r, "a digit is wanted");
}

static bool pass_number(struct fork_json_reader *r)
{
	r->at += *r->at == '-';
	if (r->at < r->end && *r->at == '0') {
		r->at++;
	} else if (!pass_digits(r)) {
		return false;
	}
	if (r->at < r->end && *r->at == '.') {
		r->at++;
		if (!pass_digits(r)) {
			return false;
		}
	}
	if (r->at < r->end && (*r->at | 0x20) == 'e') {
		r->at++;
		r->at += r->at < r->end && (*r->at == '+' || *r->at == '-');
		return pass_digits(r);
	}
	return true;
}

static bool pass_value(struct fork_json_reader *r, struct fork_json_value *value, int depth);

static bool pass_key(struct fork_json_reader *r, struct fork_json_value *key)
{
	if (!pass(r, '"')) {
		return fail(r, "a key in double quotes is wanted");
	}
	return pass_text(r, key) && (pass(r, ':') || fail(r, "a colon is wanted"));
}

/*! \brief The rest of an array or an object, its bracket passed. */
static bool pass_nested(struct fork_json_reader *r, bool object, int depth)
{
	struct fork_json_value ignored;
	char close = object ? '}' : ']';

	if (depth > FORK_JSON_DEPTH) {
		return fail(r, "arrays and objects may be nested up to 8 deep");
	}
	if (pass(r, close)) {
		return true;
	}
	do {
		if ((object && !pass_key(r, &ignored)) || !pass_value(r, &ignored, depth)) {
			return false;
		}
	} while (pass(r, ','));
	return pass(r, close) || fail(r, object ? "a comma or } is wanted" : "a comma or ] is wanted");
}

static bool pass_word(struct fork_json_reader *r, const char *word)
{
	size_t length = strlen(word);

	if ((size_t) (r->end - r->at) < length || memcmp(r->at, word, length)) {
		return fail(r, "a value is wanted");
	}
	r->at += length;
	return true;
}

/*! \param depth arrays and objects around it */
static bool pass_value(struct fork_json_reader *r, struct fork_json_value *value, int depth)
{
	bool good;

	if (pass(r, '"')) {
		return pass_text(r, value);
	}
	value->at = r->at;
	if (pass(r, '{') || pass(r, '[')) {
		value->kind = FORK_JSON_NESTED;
		good = pass_nested(r, r->at[-1] == '{', depth + 1);
	} else if (r->at < r->end && (*r->at == '-' || is_digit(*r->at))) {
		value->kind = FORK_JSON_NUMBER;
		good = pass_number(r);
	} else if (r->at < r->end && *r->at == 't') {
		value->kind = FORK_JSON_TRUE;
		good = pass_word(r, "true");
	} else if (r->at < r->end && *r->at == 'f') {
		value->kind = FORK_JSON_FALSE;
		good = pass_word(r, "false");
	} else {
		value->kind = FORK_JSON_NULL;
		good = pass_word(r, "null");
	}
	value->length = (size_t) (r->at - value->at);
	return good;
}

void fork_json_read(struct fork_json_reader *r, const char *text, size_t length)
{
	r->start = r->at = text;
	r->end = text + length;
	r->wrong = NULL;
}

bool fork_json_next(struct fork_json_reader *r, struct fork_json_value *key,
	struct fork_json_value *value)
{
	bool first = r->at == r->start;

	if (first && !pass(r, '{')) {
		return fail(r, "a JSON object is wanted");
	}
	if (pass(r, '}')) {
		pass_blanks(r);
		return r->at == r->end ? false : fail(r, "nothing may stand after the object");
	}
	if (!first && !pass(r, ',')) {
		return fail(r, "a comma or } is wanted");
	}
	return pass_key(r, key) && pass_value(r, value, 0);
}

bool fork_json_get_text(const struct fork_json_value *value, char *room, size_t size)
{
	const char *at = value->at, *end = at + value->length;
	char encoded[4];
	size_t used = 0;

	if (value->kind != FORK_JSON_TEXT) {
		return false;
	}
	while (at < end) {
		uint32_t code = (unsigned char) *at;
		size_t taken = *at == '\\' ? read_escape(at, end, &code) : 1;
		size_t given = *at == '\\' ? utf8_encode(code, encoded) : 1;

		if (!taken || !code || used + given >= size) {
			return false;
		}
		memcpy(room + used, *at == '\\' ? encoded : at, given);
		used += given;
		at += taken;
	}
	room[used] = '\0';
	return true;
}

bool fork_json_get_int(const struct fork_json_value *value, int64_t low, int64_t high,
	int64_t *number)
{
	size_t i = value->kind == FORK_JSON_NUMBER && *value->at == '-';
	int64_t found = 0;

	/* 18 digits fit; a number of JSON has no zeros before it. */
	if (value->kind != FORK_JSON_NUMBER || value->length - i > 18) {
		return false;
	}
	for (size_t j = i; j < value->length; j++) {
		if (!is_digit(value->at[j])) {
			return false;
		}
		found = found * 10 + (value->at[j] - '0');
	}
	*number = i ? -found : found;
	return *number >= low && *number <= high;
}
