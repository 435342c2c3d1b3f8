/*
 * asterisk-dialog: the servers of audiofork.conf.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A section of audiofork.conf for each server: who we are to it, and TLS.
 *
 * Nothing here is ever logged but names, numbers of lines and what is wrong: values are secrets.
 */

#include "audiofork.h"

#include <sys/stat.h>

#include "asterisk/config.h"
#include "asterisk/logger.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#define SECRET_MAX 4096

/*! \brief What a section says of who we are, until it has become a header. */
struct identity {
	char bearer[SECRET_MAX];
	char user[256];
	char password[256];
};

static int complain(const struct ast_variable *var, const char *what)
{
	ast_log(LOG_ERROR, "audiofork.conf line %d: %s %s\n", var->lineno, var->name, what);
	return -1;
}

/*! \brief Whether it can be the value of a header: no control character, and something of it. */
static int header_value(const char *value)
{
	for (const char *c = value; *c; c++) {
		if ((unsigned char) *c < ' ' || *c == 0x7f) {
			return 0;
		}
	}
	return *value != '\0';
}

static int set_text(char *text, size_t size, const struct ast_variable *var)
{
	if (!header_value(var->value) || strlen(var->value) >= size) {
		return complain(var, "is empty, too long, or has a control character");
	}
	ast_copy_string(text, var->value, size);
	return 0;
}

static int set_file(char *text, size_t size, const struct ast_variable *var)
{
	if (set_text(text, size, var)) {
		return -1;
	}
	if (access(text, R_OK)) {
		ast_log(LOG_ERROR, "audiofork.conf line %d: cannot read %s: %s\n", var->lineno, text,
			strerror(errno));
		return -1;
	}
	return 0;
}

/*! \brief A secret that is the one line of a file. */
static int read_secret(char *text, size_t size, const struct ast_variable *var)
{
	FILE *file = fopen(var->value, "r");
	struct stat about;
	size_t length;

	if (!file || fstat(fileno(file), &about)) {
		ast_log(LOG_ERROR, "audiofork.conf line %d: cannot read %s: %s\n", var->lineno,
			var->value, strerror(errno));
		if (file) {
			fclose(file);
		}
		return -1;
	}
	if (about.st_mode & S_IROTH) {
		ast_log(LOG_WARNING, "audiofork.conf line %d: every user of this machine may read %s\n",
			var->lineno, var->value);
	}
	length = fread(text, 1, size, file);
	fclose(file);
	while (length && length < size && strchr("\r\n", text[length - 1])) {
		length--;
	}
	if (length == size || memchr(text, '\0', length)) {
		return complain(var, "is too long a file, or not text");
	}
	text[length] = '\0';
	return header_value(text) ? 0 : complain(var, "holds nothing, or more than one line");
}

/*! \brief Append "Name: value\n". */
static int add_header(struct audiofork_server *server, const char *name, const char *value)
{
	size_t used = strlen(server->headers);
	int length = snprintf(server->headers + used, sizeof(server->headers) - used, "%s: %s\n", name,
		value);

	if (length < 0 || (size_t) length >= sizeof(server->headers) - used) {
		server->headers[used] = '\0';
		return -1;
	}
	return 0;
}

/*! \brief Whether the name is one that the handshake, or another setting, does not need itself. */
static int may_add(const char *name)
{
	static const char *const reserved[] = { "Host", "Upgrade", "Connection", "Authorization",
		"Content-Length", "Transfer-Encoding", "Expect", "TE", "Trailer", "Keep-Alive" };

	if (!*name || strlen(name) > FORK_HEADER_NAME_MAX - 1 || !strncasecmp(name, "Sec-", 4)
		|| !strncasecmp(name, "Proxy-", 6)) {
		return 0;
	}
	for (const char *c = name; *c; c++) {
		if (!isalnum((unsigned char) *c) && *c != '-' && *c != '_') {
			return 0;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
		if (!strcasecmp(name, reserved[i])) {
			return 0;
		}
	}
	return 1;
}

/*! \brief header = Name: value */
static int set_header(struct audiofork_server *server, const struct ast_variable *var)
{
	char name[FORK_HEADER_NAME_MAX];
	const char *colon = strchr(var->value, ':');
	const char *value;

	if (!colon || (size_t) (colon - var->value) >= sizeof(name)) {
		return complain(var, "wants Name: value");
	}
	ast_copy_string(name, var->value, (size_t) (colon - var->value) + 1);
	value = ast_skip_blanks(colon + 1);
	if (!may_add(name)) {
		return complain(var, "has a name that is not allowed");
	}
	if (!header_value(value)) {
		return complain(var, "is empty, or has a control character");
	}
	return add_header(server, name, value) ? complain(var, "is too long, with those before it") : 0;
}

static int set_url(struct audiofork_server *server, const struct ast_variable *var)
{
	struct fork_url url;
	const char *why;

	if (fork_url_parse(&url, var->value, &why)) {
		ast_log(LOG_ERROR, "audiofork.conf line %d: url: %s\n", var->lineno, why);
		return -1;
	}
	ast_copy_string(server->url, var->value, sizeof(server->url));
	return 0;
}

static int set_one(struct audiofork_server *server, struct identity *who,
	const struct ast_variable *var)
{
	const struct {
		const char *name;
		char *text;
		size_t size;
		int (*set)(char *text, size_t size, const struct ast_variable *var);
	} fields[] = {
		{ "bearer", who->bearer, sizeof(who->bearer), set_text },
		{ "bearer_file", who->bearer, sizeof(who->bearer), read_secret },
		{ "user", who->user, sizeof(who->user), set_text },
		{ "password", who->password, sizeof(who->password), set_text },
		{ "password_file", who->password, sizeof(who->password), read_secret },
		{ "tls_ca_file", server->tls_ca_file, sizeof(server->tls_ca_file), set_file },
		{ "tls_cert_file", server->tls_cert_file, sizeof(server->tls_cert_file), set_file },
		{ "tls_key_file", server->tls_key_file, sizeof(server->tls_key_file), set_file },
		{ "tls_server_name", server->tls_server_name, sizeof(server->tls_server_name), set_text },
	};

	if (!strcasecmp(var->name, "url")) {
		return set_url(server, var);
	}
	if (!strcasecmp(var->name, "header")) {
		return set_header(server, var);
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (!strcasecmp(var->name, fields[i].name)) {
			return fields[i].set(fields[i].text, fields[i].size, var);
		}
	}
	return complain(var, "is not known here");
}

/*! \brief Bearer token, or user and password, into the header. \return what is wrong, or NULL */
static const char *set_authorization(struct audiofork_server *server, const struct identity *who)
{
	char plain[sizeof(who->user) + sizeof(who->password)];
	char value[SECRET_MAX + 16];
	int res;

	if (who->bearer[0] && (who->user[0] || who->password[0])) {
		return "either bearer, or user and password";
	}
	if (!who->user[0] != !who->password[0] || strchr(who->user, ':')) {
		return "user (without a colon) and password go together";
	}
	if (!who->bearer[0] && !who->user[0]) {
		return NULL;
	}
	if (who->bearer[0]) {
		snprintf(value, sizeof(value), "Bearer %s", who->bearer);
	} else {
		snprintf(plain, sizeof(plain), "%s:%s", who->user, who->password);
		strcpy(value, "Basic ");
		ast_base64encode(value + 6, (const unsigned char *) plain, (int) strlen(plain),
			(int) sizeof(value) - 6);
		explicit_bzero(plain, sizeof(plain));
	}
	res = add_header(server, "Authorization", value);
	explicit_bzero(value, sizeof(value));
	return res ? "the headers are too long together" : NULL;
}

static int is_loopback(const char *host)
{
	return !strcasecmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1");
}

/*! \brief The section as a whole. \return what is wrong, or NULL */
static const char *check(const struct audiofork_server *server)
{
	struct fork_url url;
	const char *why;

	if (fork_url_parse(&url, server->url, &why)) {
		return "there is no url";
	}
	if (!url.tls && (server->tls_ca_file[0] || server->tls_cert_file[0] || server->tls_key_file[0]
		|| server->tls_server_name[0])) {
		return "tls_… settings want a wss:// url";
	}
	for (const char *c = server->tls_server_name; *c; c++) {
		if (!isalnum((unsigned char) *c) && !strchr("-._", *c)) {
			return "tls_server_name is a host's name";
		}
	}
	if (!url.tls && server->headers[0] && !is_loopback(url.host)) {
		ast_log(LOG_WARNING, "audiofork.conf [%s]: what is sent to %s as authorization, or in "
			"other headers, can be read on its way: use wss://\n", server->name, url.shown);
	}
	return NULL;
}

int audiofork_server_add(struct audiofork_conf *conf, const char *name,
	const struct ast_variable *first)
{
	struct audiofork_server *server = ast_calloc(1, sizeof(*server));
	struct identity *who = ast_calloc(1, sizeof(*who));
	const char *why = NULL;
	int errors = 0;

	if (server && who) {
		ast_copy_string(server->name, name, sizeof(server->name));
		for (const struct ast_variable *var = first; var; var = var->next) {
			errors += set_one(server, who, var) ? 1 : 0;
		}
		if (!errors && ((why = set_authorization(server, who)) || (why = check(server)))) {
			ast_log(LOG_ERROR, "audiofork.conf [%s]: %s\n", name, why);
			errors++;
		}
		explicit_bzero(who, sizeof(*who));
		server->next = conf->servers;
		conf->servers = server;
	} else {
		ast_free(server);
		errors++;
	}
	ast_free(who);
	return errors;
}

void audiofork_servers_free(struct audiofork_conf *conf)
{
	struct audiofork_server *server;

	while ((server = conf->servers)) {
		conf->servers = server->next;
		explicit_bzero(server, sizeof(*server));
		ast_free(server);
	}
}

const struct audiofork_server *audiofork_server_find(const struct audiofork_conf *conf,
	const struct fork_url *url)
{
	const struct audiofork_server *best = NULL;
	size_t longest = 0;

	for (const struct audiofork_server *one = conf->servers; one; one = one->next) {
		struct fork_url covered;
		const char *why;
		size_t length;

		if (!fork_url_allows(one->url, url) || fork_url_parse(&covered, one->url, &why)) {
			continue;
		}
		length = strcspn(covered.path, "?");
		if (!best || length > longest) {
			best = one;
			longest = length;
		}
	}
	return best;
}
