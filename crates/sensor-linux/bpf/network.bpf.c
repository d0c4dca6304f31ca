// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Connections, listening sockets and DNS.
 *
 * Who connects or accepts is the process in whose call it happens; the end of a TCP
 * connection comes from wherever the kernel notices it, so its process is kept from
 * the beginning (`connections`). DNS is read off the wire: queries where they are
 * sent, still in the call of whoever asks, answers where they arrive, joined to
 * their query by addresses, ports and id.
 *
 * Some of these programs run in interrupts. Those build their records on the stack,
 * or (answers) in a space of their own.
 */
#include "act.h"

#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define EINPROGRESS 115
#define SOCK_DONE 1 /* enum sock_flags: the other side has ended */

#define DNS_PORT 53
/* Of a message over UDP; a longer one is cut and marked (RFC 6891 recommends 1232). */
#define DNS_MAX 1232u
#define DNS_HEADER 12u

/* A connection from its beginning to its end, by its socket. */
struct connection {
	u64 start_ns;  /* with pid: whose it is */
	u64 opened_ns; /* also the connection's id */
	u32 pid;
	u16 established;
	u16 accepted;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct connection);
} connections SEC(".maps");

/* What connect(2) was given; its memory may be changed while it runs. */
struct destination {
	s64 fd;
	u16 family;
	u16 port; /* network order */
	u32 reserved;
	u64 address[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct destination);
} connecting SEC(".maps");

/* A flow of datagrams that was told, so that only its first one is. */
struct flow {
	u64 local[2];
	u64 remote[2];
	u16 local_port;
	u16 remote_port;
	u32 id; /* of a DNS query; 0 for a flow */
};

/* It is a key, so it must not have bytes that nobody sets. */
_Static_assert(sizeof(struct flow) == 40, "struct flow");

struct asker {
	u64 start_ns;
	u64 pid;
	/* Of a query: a packet passes each device of a stack (a bond, then its port), and
	 * only the first one's is told. */
	u64 packet;
	u64 device;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct flow);
	__type(value, struct asker);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, struct asker);
} queries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct record_space);
} answer_scratch SEC(".maps");

/* The numbers of a connection, from its socket. */
static __always_inline void put_addresses(struct act_record *act, struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;

	act->numbers[0] = family | (u64)sk->sk_protocol << 16;
	act->numbers[1] = sk->__sk_common.skc_num | (u64)bpf_ntohs(sk->__sk_common.skc_dport) << 32;
	if (family == AF_INET6) {
		bpf_probe_read_kernel(&act->numbers[2], 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(&act->numbers[4], 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		act->numbers[2] = sk->__sk_common.skc_rcv_saddr;
		act->numbers[4] = sk->__sk_common.skc_daddr;
	}
}

/* The same where the verifier does not follow the socket. */
static __always_inline void read_addresses(struct act_record *act, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	act->numbers[0] = family | (u64)BPF_CORE_READ(sk, sk_protocol) << 16;
	act->numbers[1] = BPF_CORE_READ(sk, __sk_common.skc_num) |
			  (u64)bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) << 32;
	if (family == AF_INET6) {
		bpf_probe_read_kernel(&act->numbers[2], 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(&act->numbers[4], 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		act->numbers[2] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		act->numbers[4] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	}
}

/* The socket behind a descriptor of the current process; 0 where it is none. */
static __always_inline struct sock *socket_of(s64 fd)
{
	struct file *file = file_of((u32)fd);
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return socket ? BPF_CORE_READ(socket, sk) : 0;
}

static __always_inline bool is_internet(u16 family)
{
	return family == AF_INET || family == AF_INET6;
}

/* Keeps a connection until its end, which the states of TCP alone tell. Returns its id. */
static __always_inline u64 remember(struct sock *sk, struct act_record *act, bool accepted)
{
	struct connection connection = {
		.start_ns = act->head.start_ns,
		.opened_ns = act->head.at_ns,
		.pid = act->head.pid,
		.established = accepted || BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_ESTABLISHED,
		.accepted = accepted,
	};
	u64 key = (u64)sk;
	struct connection *known;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return connection.opened_ns;
	known = bpf_map_lookup_elem(&connections, &key);
	if (known && known->pid)
		connection.opened_ns = known->opened_ns;
	if (known && known->established)
		connection.established = 1;
	/* Its end will find nothing to tell. */
	if (bpf_map_update_elem(&connections, &key, &connection, BPF_ANY))
		count_lost(COUNT_NETWORK_CLOSE, 1);
	return connection.opened_ns;
}

SEC("tracepoint/syscalls/sys_enter_connect")
int enter_connect(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct destination given = {};
	const void *address = (const void *)ctx->args[1];

	if (bpf_probe_read_user(&given.family, sizeof(given.family), address) || !is_internet(given.family))
		return 0;
	given.fd = (s32)ctx->args[0];
	bpf_probe_read_user(&given.port, sizeof(given.port), address + 2);
	if (given.family == AF_INET6)
		bpf_probe_read_user(given.address, 16, address + 8);
	else
		bpf_probe_read_user(given.address, 4, address + 4);
	bpf_map_update_elem(&connecting, &thread, &given, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct exit_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct destination *given = bpf_map_lookup_elem(&connecting, &thread);
	struct record_space *s;
	struct sock *sk;
	bool is_open = ctx->result == 0 || ctx->result == -EINPROGRESS;

	if (!given)
		return 0;
	sk = socket_of(given->fd);
	/* Datagrams are told with the first that is sent: connecting sends none. */
	s = sk && BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP ? begin_act(ACT_CONNECT, COUNT_NETWORK_CONNECT) : 0;
	if (!s) {
		bpf_map_delete_elem(&connecting, &thread);
		return 0;
	}
	read_addresses(&s->act, sk);
	/* A socket that failed has forgotten whom it asked for. */
	s->act.numbers[1] = (s->act.numbers[1] & 0xffffffff) | (u64)bpf_ntohs(given->port) << 32;
	if ((u16)s->act.numbers[0] == given->family) {
		s->act.numbers[4] = given->address[0];
		s->act.numbers[5] = given->address[1];
	}
	s->act.result = (s32)ctx->result;
	if (is_open)
		s->act.numbers[6] = remember(sk, &s->act, false);
	bpf_map_delete_elem(&connecting, &thread);
	end_act(s, COUNT_NETWORK_CONNECT, false);
	return 0;
}

static __always_inline int accepted(struct exit_args *ctx)
{
	struct record_space *s;
	struct sock *sk;

	if (ctx->result < 0)
		return 0;
	sk = socket_of(ctx->result);
	if (!sk || !is_internet(BPF_CORE_READ(sk, __sk_common.skc_family)))
		return 0;
	s = begin_act(ACT_ACCEPT, COUNT_NETWORK_ACCEPT);
	if (!s)
		return 0;
	read_addresses(&s->act, sk);
	s->act.numbers[6] = remember(sk, &s->act, true);
	end_act(s, COUNT_NETWORK_ACCEPT, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int exit_accept4(struct exit_args *ctx)
{
	return accepted(ctx);
}

SEC("tracepoint/syscalls/sys_exit_accept")
int exit_accept(struct exit_args *ctx)
{
	return accepted(ctx);
}

/* A datagram socket with a port of its own waits for whoever sends. */
SEC("tracepoint/syscalls/sys_enter_bind")
int enter_bind(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call = {};

	/* A program that reads more arguments than the call has can't be attached to it. */
	call.args[0] = ctx->args[0];
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_bind")
int exit_bind(struct exit_args *ctx)
{
	struct record_space *s;
	struct sock *sk;
	struct call call;

	if (!take_call(&call) || ctx->result != 0)
		return 0;
	sk = socket_of((s32)call.args[0]);
	if (!sk || !is_internet(BPF_CORE_READ(sk, __sk_common.skc_family)))
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP || !BPF_CORE_READ(sk, __sk_common.skc_num))
		return 0;
	s = begin_act(ACT_LISTEN, COUNT_NETWORK_LISTEN);
	if (!s)
		return 0;
	read_addresses(&s->act, sk);
	end_act(s, COUNT_NETWORK_LISTEN, false);
	return 0;
}

static __always_inline void begin_on_stack(struct act_record *act, u16 type, u64 start_ns, u32 pid)
{
	act->head.magic = RECORD_MAGIC;
	act->head.type = type;
	act->head.size = sizeof(*act);
	act->head.pid = pid;
	act->head.at_ns = bpf_ktime_get_boot_ns();
	act->head.start_ns = start_ns;
}

static __always_inline void tell_listen(struct sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct act_record act = {};

	if (is_agent(leader) || !is_wanted(COUNT_NETWORK_LISTEN))
		return;
	begin_on_stack(&act, ACT_LISTEN, leader->start_boottime, leader->tgid);
	put_addresses(&act, sk);
	send(&act, sizeof(act), COUNT_NETWORK_LISTEN, false);
}

static __always_inline void tell_close(struct sock *sk, struct connection *connection)
{
	struct tcp_sock *tcp = (void *)sk;
	struct act_record act = {};

	if (!is_wanted(COUNT_NETWORK_CLOSE))
		return;
	begin_on_stack(&act, ACT_CLOSE, connection->start_ns, connection->pid);
	put_addresses(&act, sk);
	act.result = connection->accepted;
	act.numbers[6] = connection->opened_ns;
	act.numbers[7] = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
	/* The other side's end counts as a byte. */
	act.numbers[8] = BPF_CORE_READ(tcp, bytes_received) - ((sk->__sk_common.skc_flags >> SOCK_DONE) & 1);
	send(&act, sizeof(act), COUNT_NETWORK_CLOSE, false);
}

SEC("tp_btf/inet_sock_set_state")
int on_tcp_state(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int now = (int)ctx[2];
	u64 key = (u64)sk;
	struct connection *connection;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (now == TCP_LISTEN) {
		tell_listen(sk);
		return 0;
	}
	if (now != TCP_ESTABLISHED && now != TCP_CLOSE)
		return 0;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (now == TCP_ESTABLISHED) {
		/* Before the call of whoever connects ends, nothing is known of it but this. */
		struct connection begun = { .opened_ns = bpf_ktime_get_boot_ns(), .established = 1 };

		if (connection)
			connection->established = 1;
		else
			bpf_map_update_elem(&connections, &key, &begun, BPF_NOEXIST);
		return 0;
	}
	if (!connection)
		return 0;
	if (connection->established && connection->pid)
		tell_close(sk, connection);
	bpf_map_delete_elem(&connections, &key);
	return 0;
}

/* Where a packet's parts lie. */
struct packet {
	struct flow flow;
	u16 family;
	u16 protocol;
	u32 payload; /* offset of the data from skb->head */
	u32 length;  /* of the data that lies there */
};

static __always_inline bool read_packet(struct sk_buff *skb, struct packet *packet, bool is_out)
{
	/* A number and not a pointer, which the verifier would follow. */
	u64 head = (u64)BPF_CORE_READ(skb, head);
	u32 at = skb->network_header, addresses;
	u16 ports[2], protocol = bpf_ntohs(skb->protocol);
	u64 source[2] = {}, target[2] = {};
	u8 byte = 0, transport = 0;
	u32 linear_end = (u64)BPF_CORE_READ(skb, data) - head + skb->len - skb->data_len;

	if (protocol == ETH_P_IP) {
		bpf_probe_read_kernel(&byte, 1, (void *)(head + at));
		bpf_probe_read_kernel(&transport, 1, (void *)(head + at + 9));
		addresses = at + 12;
		at += (byte & 15) * 4;
		packet->family = AF_INET;
	} else if (protocol == ETH_P_IPV6) {
		bpf_probe_read_kernel(&transport, 1, (void *)(head + at + 6));
		addresses = at + 8;
		at += 40;
		packet->family = AF_INET6;
	} else {
		return false;
	}
	/* TCP is told by its states. */
	if (transport != IPPROTO_UDP)
		return false;
	if (bpf_probe_read_kernel(ports, sizeof(ports), (void *)(head + at)))
		return false;
	packet->flow.local_port = bpf_ntohs(is_out ? ports[0] : ports[1]);
	packet->flow.remote_port = bpf_ntohs(is_out ? ports[1] : ports[0]);
	if (packet->family == AF_INET6) {
		bpf_probe_read_kernel(source, 16, (void *)(head + addresses));
		bpf_probe_read_kernel(target, 16, (void *)(head + addresses + 16));
	} else {
		bpf_probe_read_kernel(source, 4, (void *)(head + addresses));
		bpf_probe_read_kernel(target, 4, (void *)(head + addresses + 4));
	}
	at += 8;
	packet->protocol = transport;
	packet->payload = at;
	packet->length = linear_end > at ? linear_end - at : 0;
	__builtin_memcpy(packet->flow.local, is_out ? source : target, 16);
	__builtin_memcpy(packet->flow.remote, is_out ? target : source, 16);
	return true;
}

static __always_inline void put_flow(struct act_record *act, struct packet *packet)
{
	act->numbers[0] = packet->family | (u64)packet->protocol << 16;
	act->numbers[1] = packet->flow.local_port | (u64)packet->flow.remote_port << 32;
	act->numbers[2] = packet->flow.local[0];
	act->numbers[3] = packet->flow.local[1];
	act->numbers[4] = packet->flow.remote[0];
	act->numbers[5] = packet->flow.remote[1];
}

/* Appends a DNS message as text 0. False where there is none. */
static __always_inline bool put_message(struct record_space *s, struct sk_buff *skb, struct packet *packet)
{
	u32 at = packet->payload, length = packet->length;

	if (length < DNS_HEADER)
		return false;
	if (length > DNS_MAX) {
		length = DNS_MAX;
		s->act.head.flags |= 1;
	}
	if (bpf_probe_read_kernel(s->data, length, (void *)((u64)BPF_CORE_READ(skb, head) + at)))
		return false;
	s->act.text_len[0] = length;
	s->used = length;
	return true;
}

static __always_inline void tell_query(struct sk_buff *skb, struct packet *packet)
{
	struct record_space *s = begin_act(ACT_DNS_QUERY, COUNT_DNS_QUERY);
	struct asker asker = { .packet = (u64)skb, .device = (u64)skb->dev }, *known;
	u16 id;

	if (!s || !put_message(s, skb, packet))
		return;
	put_flow(&s->act, packet);
	asker.pid = s->act.head.pid;
	asker.start_ns = s->act.head.start_ns;
	__builtin_memcpy(&id, s->data, sizeof(id));
	packet->flow.id = id | 1u << 16;
	known = bpf_map_lookup_elem(&queries, &packet->flow);
	if (!known || known->packet != asker.packet || known->device == asker.device) {
		bpf_map_update_elem(&queries, &packet->flow, &asker, BPF_ANY);
		end_act(s, COUNT_DNS_QUERY, false);
	}
	/* The flow is that of all queries of the socket. */
	packet->flow.id = 0;
}

static __always_inline void tell_flow(struct packet *packet)
{
	struct record_space *s;
	struct asker asker = {};

	if (bpf_map_lookup_elem(&flows, &packet->flow))
		return;
	s = begin_act(ACT_CONNECT, COUNT_NETWORK_CONNECT);
	if (!s)
		return;
	put_flow(&s->act, packet);
	s->act.numbers[6] = s->act.head.at_ns;
	asker.pid = s->act.head.pid;
	asker.start_ns = s->act.head.start_ns;
	/* The answers to it belong to it. */
	bpf_map_update_elem(&flows, &packet->flow, &asker, BPF_ANY);
	end_act(s, COUNT_NETWORK_CONNECT, false);
}

/* Still in the call of whoever sends, for nearly all that is sent. */
SEC("tp_btf/net_dev_queue")
int on_packet_out(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct packet packet = {};

	/* What is only passed on is nobody's here. */
	if (!skb->sk || !read_packet(skb, &packet, true))
		return 0;
	if (packet.flow.remote_port == DNS_PORT)
		tell_query(skb, &packet);
	tell_flow(&packet);
	return 0;
}

/* The part that is read of the context of programs on a cgroup's packets (linux/bpf.h). */
struct __sk_buff {
	u32 len;
	u32 not_read[21];
	u32 family;
	u32 remote_ip4; /* addresses and the remote port in network order */
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
};

/* A query over TCP. Its bytes lie in pages that tracepoints can't read. */
SEC("cgroup_skb/egress")
int on_tcp_query(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct record_space *s;
	u32 at = 40, length;
	u8 byte = 0;

	if (bpf_ntohl(skb->remote_port) != DNS_PORT)
		return 1;
	packet.family = skb->family;
	packet.protocol = IPPROTO_TCP;
	packet.flow.local_port = skb->local_port;
	packet.flow.remote_port = DNS_PORT;
	if (packet.family == AF_INET) {
		bpf_skb_load_bytes(skb, 9, &byte, 1);
		if (byte != IPPROTO_TCP)
			return 1;
		bpf_skb_load_bytes(skb, 0, &byte, 1);
		at = (byte & 15) * 4;
		packet.flow.local[0] = skb->local_ip4;
		packet.flow.remote[0] = skb->remote_ip4;
	} else {
		bpf_skb_load_bytes(skb, 6, &byte, 1);
		if (byte != IPPROTO_TCP)
			return 1;
		packet.flow.local[0] = skb->local_ip6[0] | (u64)skb->local_ip6[1] << 32;
		packet.flow.local[1] = skb->local_ip6[2] | (u64)skb->local_ip6[3] << 32;
		packet.flow.remote[0] = skb->remote_ip6[0] | (u64)skb->remote_ip6[1] << 32;
		packet.flow.remote[1] = skb->remote_ip6[2] | (u64)skb->remote_ip6[3] << 32;
	}
	bpf_skb_load_bytes(skb, at + 12, &byte, 1);
	/* Two bytes of length come before the message (RFC 1035 section 4.2.2). */
	at += (byte >> 4) * 4 + 2;
	length = skb->len;
	if (length < at + DNS_HEADER)
		return 1;
	length -= at;
	s = begin_act(ACT_DNS_QUERY, COUNT_DNS_QUERY);
	if (!s)
		return 1;
	if (length > DNS_MAX) {
		length = DNS_MAX;
		s->act.head.flags |= 1;
	}
	if (length < DNS_HEADER || bpf_skb_load_bytes(skb, at, s->data, length))
		return 1;
	s->act.text_len[0] = length;
	s->used = length;
	put_flow(&s->act, &packet);
	end_act(s, COUNT_DNS_QUERY, false);
	return 1;
}

SEC("tp_btf/netif_receive_skb")
int on_packet_in(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct packet packet = {};
	struct record_space *s;
	struct asker *asker, *known, asked = {};
	u32 zero = 0, size;
	u16 id;

	if (!read_packet(skb, &packet, false))
		return 0;
	if (!bpf_map_lookup_elem(&flows, &packet.flow)) {
		/* So that the answer is not told as a flow of its own. Who sends it is not
		 * known here; pid 0 says so. */
		bpf_map_update_elem(&flows, &packet.flow, &asked, BPF_NOEXIST);
	}
	if (packet.flow.remote_port != DNS_PORT)
		return 0;
	s = bpf_map_lookup_elem(&answer_scratch, &zero);
	if (!s || !is_wanted(COUNT_DNS_QUERY))
		return 0;
	__builtin_memset(&s->act, 0, sizeof(s->act));
	begin_on_stack(&s->act, ACT_DNS_ANSWER, 0, 0);
	s->used = 0;
	if (!put_message(s, skb, &packet))
		return 0;
	__builtin_memcpy(&id, s->data, sizeof(id));
	packet.flow.id = id | 1u << 16;
	known = bpf_map_lookup_elem(&queries, &packet.flow);
	if (!known)
		return 0;
	asker = known;
	s->act.head.pid = asker->pid;
	s->act.head.start_ns = asker->start_ns;
	bpf_map_delete_elem(&queries, &packet.flow);
	packet.flow.id = 0;
	put_flow(&s->act, &packet);
	size = s->used;
	if (size > DNS_MAX)
		return 0;
	size += sizeof(struct act_record);
	s->act.head.size = size;
	send(&s->act, size, COUNT_DNS_QUERY, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
