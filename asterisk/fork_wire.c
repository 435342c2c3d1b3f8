/*
 * asterisk-dialog: libwebsockets under the links.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The service thread and all calls of libwebsockets.
 *
 * Only this file knows libwebsockets' callbacks and versions (4.0 to 4.3).
 */

#include "fork_eventfd.h"
#include "fork_frame.h"
#include "fork_link.h"

#include <openssl/ssl.h>
#include <errno.h>
#include <openssl/x509_vfy.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define SUBPROTOCOL "echo"
/* Write-ahead into the kernel: about a second of audio. A server that hangs for longer then loses
 * the oldest audio of the ring, and gets no more than this of the past when it wakes up. */
#define SEND_BUFFER_BYTES 16384
/* The longest message that is sent past libwebsockets. The kernel doubles SEND_BUFFER_BYTES and
 * calls a socket writable when a third of that is free: a message of so much then fits whole. */
#define PAST_BYTES_MAX 4096
#define SUM_OF_TLS_SETTINGS 16
/* Room for a request: path, host and the headers of audiofork.conf. It is also what is read at once. */
#define HANDSHAKE_BYTES 8192

/* Written before the thread starts and after it ended; else by the service thread alone. */
static struct {
	struct lws_context *context;
	struct fork_eventfd event;
	pthread_t thread;
	_Atomic bool stopping;
	struct {
		struct lws_vhost *vhost;
		char ca[256], cert[256], key[256];
	} tls[SUM_OF_TLS_SETTINGS];
	struct lws_vhost *plain;
	/* Service thread only. */
	unsigned char keys[4096]; /* masking keys to come */
	size_t keys_used;
	lws_sorted_usec_list_t pulse;
	bool pulse_set;
} wire;

/*! \brief Why there is no connection, in words an admin knows. */
static void note_error(struct fork_link *link, const char *in, size_t len)
{
	static const char *const words[][2] = {
		{ "Unable to connect", "cannot connect: nobody listens there, or no way to it" },
		{ "conn fail", "cannot connect: nobody listens there, or no way to it" },
		{ "not 101", "the server answers, but does not accept a WebSocket here" },
		{ "redirect", "the server sends us elsewhere, which is not followed" },
	};

	if (link->error[0] || !in || !len) {
		return; /* what certificate verification has said is better */
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (memmem(in, len, words[i][0], strlen(words[i][0]))) {
			snprintf(link->error, sizeof(link->error), "%s", words[i][1]);
			return;
		}
	}
	snprintf(link->error, sizeof(link->error), "%s handshake: %.*s",
		link->params.url.tls ? "TLS or WebSocket" : "WebSocket", (int) len, in);
}

/*! \brief OpenSSL asks about a certificate; what it found wrong stays wrong. */
static void note_certificate(struct fork_link *link, X509_STORE_CTX *store, bool good)
{
	if (!good) {
		snprintf(link->error, sizeof(link->error), "the server's certificate: %s",
			X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	}
}

/*! \brief Close code and text of a server that ends the connection. */
static void note_peer_close(struct fork_link *link, const unsigned char *in, size_t len)
{
	if (len < 2) {
		link->peer_code = 1005;
		snprintf(link->error, sizeof(link->error), "closed by the server");
		return;
	}
	link->peer_code = in[0] << 8 | in[1];
	snprintf(link->error, sizeof(link->error), "closed by the server: %d %.*s",
		link->peer_code, (int) (len - 2), (const char *) in + 2);
	for (char *c = link->error; *c; c++) {
		if ((unsigned char) *c < ' ') {
			*c = '?';
		}
	}
}

static void connection_made(struct fork_link *link, struct lws *wsi)
{
	int bytes = SEND_BUFFER_BYTES;

	setsockopt(lws_get_socket_fd(wsi), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	fork_connection_up(link);
}

/*! \brief Into the request what audiofork.conf has for this server. \retval -1 it does not fit */
static int add_headers(const struct fork_link *link, struct lws *wsi, unsigned char **at,
	size_t room)
{
	unsigned char *end = *at + room;
	const char *line = link->params.headers;
	char name[FORK_HEADER_NAME_MAX + 2];

	while (line && *line) {
		size_t length = strcspn(line, "\n"), colon = strcspn(line, ":");

		snprintf(name, sizeof(name), "%.*s:", (int) colon, line);
		if (lws_add_http_header_by_name(wsi, (const unsigned char *) name,
			(const unsigned char *) line + colon + 2, (int) (length - colon - 2), at, end)) {
			return -1;
		}
		line += length + 1;
	}
	return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
	size_t len)
{
	struct fork_link *link;

	link = wsi ? lws_get_opaque_user_data(wsi) : NULL;
	if (!link) {
		/* Killed by us, or none of ours: whatever it still has to say, end it. */
		return reason == LWS_CALLBACK_CLIENT_WRITEABLE
			|| reason == LWS_CALLBACK_CLIENT_ESTABLISHED ? -1 : 0;
	}
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return add_headers(link, wsi, in, len);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		connection_made(link, wsi);
		break;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return fork_connection_writable(link);
	case LWS_CALLBACK_CLIENT_RECEIVE:
		/* Without json nothing is expected; it is read all the same: pings get their pongs. */
		if (link->play) {
			fork_receive(link, in, len, lws_frame_is_binary(wsi),
				lws_is_final_fragment(wsi) && !lws_remaining_packet_payload(wsi));
		}
		break;
	case LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION:
		note_certificate(link, user, len);
		break;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		note_peer_close(link, in, len);
		break;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		note_error(link, in, len);
		/* fall through */
	case LWS_CALLBACK_CLIENT_CLOSED:
	case LWS_CALLBACK_WSI_DESTROY:
		lws_set_opaque_user_data(wsi, NULL);
		/* Before fork_wire_connect() has returned, its result tells of the failure. */
		if (link->wsi) {
			link->wsi = NULL;
			fork_connection_down(link, link->error[0] ? link->error : "connection lost");
		}
		break;
	default:
		break;
	}
	return 0;
}

static const struct lws_protocols protocols[] = {
	{ .name = SUBPROTOCOL, .callback = callback, .rx_buffer_size = 4096 },
	{ .name = NULL },
};

static void log_lws(int level, const char *line)
{
	(void) level;
	fork_say(FORK_LOG_DEBUG, "libwebsockets: %.*s", (int) strcspn(line, "\n"), line);
}

static void fill_info(struct lws_context_creation_info *info)
{
	memset(info, 0, sizeof(*info));
	info->port = CONTEXT_PORT_NO_LISTEN;
	info->protocols = protocols;
	info->gid = (gid_t) -1;
	info->uid = (uid_t) -1;
	info->options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
	/* An address, though empty: else libwebsockets follows http_proxy of the environment. */
	info->http_proxy_address = "";
	info->pt_serv_buf_size = HANDSHAKE_BYTES;
	info->ka_time = 30;
	info->ka_probes = 3;
	info->ka_interval = 10;
}

static void *service_main(void *unused)
{
	(void) unused;
	/* A negative timeout: do what there is to do, and come back. */
	while (!wire.stopping && lws_service(wire.context, fork_news_by_clock() ? -1 : 0) >= 0) {
	}
	return NULL;
}

static void destroy_context(void)
{
	lws_context_destroy(wire.context);
	fork_eventfd_close(&wire.event);
	wire.context = NULL;
}

int fork_wire_start(void)
{
	struct lws_context_creation_info info;
	struct rlimit limit;
	sigset_t all, before;
	int res;

	memset(&wire, 0, sizeof(wire));
	wire.keys_used = sizeof(wire.keys);
	fill_info(&info);
	/* Its tables are as long as the limit, which may be a billion in a container. */
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur > 1 << 17) {
		info.fd_limit_per_thread = 8192;
	}
	lws_set_log_level(LLL_ERR | LLL_WARN, log_lws);
	if (!(wire.context = lws_create_context(&info))) {
		return -1;
	}
	wire.event = fork_eventfd_find(fork_wire_wake);
	info.vhost_name = "plain";
	if (!(wire.plain = lws_create_vhost(wire.context, &info))) {
		destroy_context();
		return -1;
	}
	/* Signals are the main program's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	res = pthread_create(&wire.thread, NULL, service_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (res) {
		destroy_context();
		return -1;
	}
	pthread_setname_np(wire.thread, "fork-service");
	return 0;
}

void fork_wire_stop(void)
{
	wire.stopping = true;
	lws_cancel_service(wire.context);
	pthread_join(wire.thread, NULL);
	destroy_context();
}

void fork_wire_wake(void)
{
	lws_cancel_service(wire.context);
}

static void timer_callback(lws_sorted_usec_list_t *timer)
{
	fork_timer_fired(lws_container_of(timer, struct fork_link, timer));
}

void fork_wire_timer(struct fork_link *link, int64_t us)
{
	lws_sul_schedule(wire.context, 0, &link->timer, timer_callback,
		us < 0 ? LWS_SET_TIMER_USEC_CANCEL : us + 1);
}

static void pulse_callback(lws_sorted_usec_list_t *timer)
{
	(void) timer;
	wire.pulse_set = false;
	fork_pulse();
}

void fork_wire_pulse(void)
{
	if (!wire.pulse_set) {
		wire.pulse_set = true;
		lws_sul_schedule(wire.context, 0, &wire.pulse, pulse_callback, FORK_FRAME_US);
	}
}

/*! \brief The vhost, and so the TLS context, for the link's certificates; made when new. */
static struct lws_vhost *tls_vhost(struct fork_link *link)
{
	const struct fork_link_params *p = &link->params;
	struct lws_context_creation_info info;
	size_t i;

	for (i = 0; i < SUM_OF_TLS_SETTINGS && wire.tls[i].vhost; i++) {
		if (!strcmp(wire.tls[i].ca, p->tls_ca) && !strcmp(wire.tls[i].cert, p->tls_cert)
			&& !strcmp(wire.tls[i].key, p->tls_key)) {
			return wire.tls[i].vhost;
		}
	}
	if (i == SUM_OF_TLS_SETTINGS) {
		snprintf(link->error, sizeof(link->error), "more than %d different TLS settings",
			SUM_OF_TLS_SETTINGS);
		return NULL;
	}
	fill_info(&info);
	info.vhost_name = "tls";
	info.client_ssl_ca_filepath = p->tls_ca[0] ? p->tls_ca : NULL;
	info.client_ssl_cert_filepath = p->tls_cert[0] ? p->tls_cert : NULL;
	info.client_ssl_private_key_filepath = p->tls_key[0] ? p->tls_key : NULL;
	wire.tls[i].vhost = lws_create_vhost(wire.context, &info);
	if (!wire.tls[i].vhost || lws_init_vhost_client_ssl(&info, wire.tls[i].vhost)) {
		snprintf(link->error, sizeof(link->error), "TLS: cannot use the certificate files");
		if (wire.tls[i].vhost) {
			lws_vhost_destroy(wire.tls[i].vhost);
			wire.tls[i].vhost = NULL;
		}
		return NULL;
	}
	memcpy(wire.tls[i].ca, p->tls_ca, sizeof(p->tls_ca));
	memcpy(wire.tls[i].cert, p->tls_cert, sizeof(p->tls_cert));
	memcpy(wire.tls[i].key, p->tls_key, sizeof(p->tls_key));
	return wire.tls[i].vhost;
}

int fork_wire_connect(struct fork_link *link, const char *address)
{
	const struct fork_url *url = &link->params.url;
	struct lws_client_connect_info info = { .context = wire.context };
	char host[sizeof(link->params.tls_name) + 16];
	struct lws *wsi;

	link->error[0] = '\0';
	link->peer_code = 0;
	/* Asterisk's admins read "host:port"; a default port is left out, as browsers do. */
	snprintf(host, sizeof(host), url->port == (url->tls ? 443 : 80) ? "%s" : "%s:%u",
		link->params.tls_name[0] ? link->params.tls_name : url->host, url->port);
	if (!(info.vhost = url->tls ? tls_vhost(link) : wire.plain)) {
		return -1;
	}
	info.address = address;
	info.port = (int) url->port;
	info.path = url->path;
	info.host = host;
	info.protocol = SUBPROTOCOL;
	info.local_protocol_name = SUBPROTOCOL;
	info.ietf_version_or_minus_one = -1;
	info.opaque_user_data = link;
	info.alpn = "http/1.1";
	/* Nothing but USE_SSL: certificate and name are verified, and no option turns it off. */
	info.ssl_connection = url->tls ? LCCSCF_USE_SSL : 0;
	/* A redirect would lead past the allow list. */
	info.ssl_connection |= LCCSCF_HTTP_NO_FOLLOW_REDIRECT;
	wsi = lws_client_connect_via_info(&info);
	/* A failure may have been reported inside the call already. */
	if (!wsi || lws_get_opaque_user_data(wsi) != link) {
		if (!link->error[0]) {
			snprintf(link->error, sizeof(link->error), "cannot connect");
		}
		return -1;
	}
	link->wsi = wsi;
	return 0;
}

void fork_wire_want_write(struct fork_link *link)
{
	lws_callback_on_writable(link->wsi);
}

void fork_wire_read(struct fork_link *link, bool on)
{
	/* What OpenSSL has decrypted already (a record, 16 kB) is read to its end: libwebsockets never
	 * sleeps while there is some. */
	if (on || !link->params.url.tls || !SSL_pending(lws_get_ssl(link->wsi))) {
		lws_rx_flow_control(link->wsi, on);
	}
}

/*! \brief Four bytes that nobody can foretell; NULL: the kernel has none yet. */
static const unsigned char *masking_key(void)
{
	const unsigned char *key;

	if (wire.keys_used == sizeof(wire.keys)) {
		if (getrandom(wire.keys, sizeof(wire.keys), GRND_NONBLOCK) != sizeof(wire.keys)) {
			return NULL;
		}
		wire.keys_used = 0;
	}
	key = wire.keys + wire.keys_used;
	wire.keys_used += 4;
	return key;
}

/*!
 * \brief Send link->message past libwebsockets, which costs as much again as the kernel does.
 *
 * Only whole frames, and only between two frames of libwebsockets: not while it has part of one
 * to send (a pong, what a full socket has left), nor once the server is closing. Between the
 * look at the socket and the send nobody else writes to it, so there is still room then.
 *
 * \retval 1 not this time: nothing was sent \retval 0 sent \retval -1 the connection is broken
 */
static int send_past(struct fork_link *link, size_t bytes, bool text)
{
	unsigned char frame[FORK_FRAME_HEAD + PAST_BYTES_MAX];
	int fd = lws_get_socket_fd(link->wsi);
	const unsigned char *key;
	ssize_t length, sent;

	/* Choked: the socket is full, or part of a frame waits. */
	if (link->params.url.tls || link->peer_code || bytes > PAST_BYTES_MAX
		|| lws_send_pipe_choked(link->wsi) || !(key = masking_key())) {
		return 1;
	}
	length = (ssize_t) fork_frame(frame, link->message + LWS_PRE, bytes, text, key);
	sent = send(fd, frame, (size_t) length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
		return 1;
	}
	if (sent != length) {
		/* If a piece was sent, for want of memory, then nothing may follow it. */
		shutdown(fd, SHUT_RDWR);
		return -1;
	}
	return 0;
}

int fork_wire_write(struct fork_link *link, size_t bytes, bool text)
{
	int res = send_past(link, bytes, text);

	atomic_fetch_add_explicit(&link->bytes_sent, bytes, memory_order_relaxed);
	if (res <= 0) {
		return res;
	}
	return lws_write(link->wsi, link->message + LWS_PRE, bytes,
		text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY) < 0 ? -1 : 0;
}

bool fork_wire_choked(struct fork_link *link)
{
	return lws_send_pipe_choked(link->wsi);
}

bool fork_wire_pending(struct fork_link *link)
{
	return lws_partial_buffered(link->wsi);
}

void fork_wire_say_goodbye(struct fork_link *link)
{
	lws_close_reason(link->wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
}

void fork_wire_kill(struct fork_link *link)
{
	if (link->wsi) {
		lws_set_opaque_user_data(link->wsi, NULL);
		lws_set_timeout(link->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
		link->wsi = NULL;
	}
}
