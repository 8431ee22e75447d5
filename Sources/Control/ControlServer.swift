internal import Glibc
public import HostIO
internal import Primitives

/// Answers the clients of one control socket, each on a thread of its own.
///
/// Invariants
/// 1. Only the owner of the process and root are heard (SO_PEERCRED); the socket's mode is 0600 besides.
/// 2. At most `Limits.connections` clients are served at a time; more get one line that says so.
/// 3. A client that sends half a line, or takes no answer, holds its own thread alone, and that for a limited time.
public final class ControlServer: Sendable {
    /// What a client may take.
    public struct Limits: Sendable {
        /// Clients at a time.
        public var connections = 16
        /// From the end of an answer to the next request.
        public var idleMs: Int32 = 300_000
        /// From the first byte of a request to its last.
        public var lineMs: Int32 = 10_000
        /// How long an answer may find no room in the client's socket.
        public var sendSeconds: Int32 = 30
        public init() {}
    }

    private struct State {
        var connections: [ObjectIdentifier: LocalSocket] = [:]
        var isStopping = false
        var isAccepting = true
    }

    private let service: any ControlService
    private let limits: Limits
    private let listener: LocalSocket
    private let directory: String
    private let name: String
    private let host: any Host
    private let allowedUsers: Set<UInt32>
    private let state = Guarded(State())

    /// Listens at `name` in `directory`; the caller holds the lock that a living owner of an older socket would hold.
    /// - Parameter users: who is heard; nil: the owner of this process and root.
    public init(
        directory: String, name: String, service: any ControlService, host: any Host, limits: Limits = Limits(),
        users: Set<UInt32>? = nil
    ) throws(IOError) {
        self.service = service
        self.limits = limits
        self.directory = directory
        self.name = name
        self.host = host
        allowedUsers = users ?? [geteuid(), 0]
        listener = try LocalSocket.listen(directory: directory, name: name, backlog: 16)
        _ = host.startThread(name: "control") { [self] in acceptAll() }
    }

    /// Hears nobody new, lets running answers end for at most `milliseconds`, and removes the socket.
    public func stop(milliseconds: Int) {
        let socket = directory + "/" + name
        unlink(socket)
        listener.shutDown()
        state.withLock { state in
            state.isStopping = true
            // A client between two requests is at its end; one that waits for an answer still gets it.
            for connection in state.connections.values { shutdown(connection.descriptor, Int32(SHUT_RD)) }
        }
        _ = state.wait(forNs: UInt64(milliseconds) * 1_000_000) { state -> Bool? in
            state.connections.isEmpty && !state.isAccepting ? true : nil
        }
    }

    private func acceptAll() {
        while true {
            let connection: LocalSocket
            do {
                connection = try listener.accept()
            } catch {
                if state.withLock({ $0.isStopping }) || error.code == EINVAL || error.code == EBADF { break }
                // Out of descriptors or memory: the next client may be luckier once another has gone.
                _ = state.wait(forNs: 100_000_000) { $0.isStopping ? true : nil }
                continue
            }
            admit(connection)
        }
        state.withLock { $0.isAccepting = false }
        state.wakeAll()
    }

    private func admit(_ connection: LocalSocket) {
        connection.setSendDeadline(seconds: limits.sendSeconds)
        let channel = SocketChannel(connection)
        guard let user = try? connection.peer().user, allowedUsers.contains(user) else {
            channel.send(
                ControlFailure(code: 1, message: "the control socket answers only the volume's owner and root"))
            return
        }
        let isAdmitted = state.withLock { state -> Bool in
            guard !state.isStopping, state.connections.count < limits.connections else { return false }
            state.connections[ObjectIdentifier(connection)] = connection
            return true
        }
        guard isAdmitted else {
            channel.send(
                ControlFailure(
                    code: 11, message: "\(limits.connections) clients use the control socket already: try again later"))
            return
        }
        _ = host.startThread(name: "control-client") { [self] in
            serve(connection, channel)
            channel.close()
            state.withLock { $0.connections[ObjectIdentifier(connection)] = nil }
            state.wakeAll()
        }
    }

    private func serve(_ connection: LocalSocket, _ channel: SocketChannel) {
        let reader = LineReader(connection, host: host)
        let conversation = service.newConversation()
        while true {
            let line: [UInt8]?
            do {
                line = try reader.line(idleMs: limits.idleMs, lineMs: limits.lineMs)
            } catch {
                switch error {
                case .tooLong:
                    let message = "a control request is longer than \(controlLineLimit) bytes"
                    channel.send(ControlFailure(code: 64, message: message))
                case .deadline: channel.send(ControlFailure(code: 1, message: "no whole control request came in time"))
                case .cut, .io: break
                }
                return
            }
            guard let line else { return }
            do throws(ControlFailure) {
                let request = try ControlRequest(line: line)
                let answer = try conversation.answer(request, channel)
                guard channel.send(answer) else { return }
            } catch {
                guard channel.send(error) else { return }
            }
        }
    }
}

/// The sending half of a connection.
final class SocketChannel: ControlChannel {
    private let socket: LocalSocket
    private let isBroken = Guarded(false)

    init(_ socket: LocalSocket) { self.socket = socket }

    var isClosed: Bool {
        if isBroken.withLock({ $0 }) { return true }
        // A client that has gone has closed its half: that shows as the end of the stream, which peeking does not take.
        var byte: UInt8 = 0
        let got = recv(socket.descriptor, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
        return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)
    }

    func progress(doneBytes: UInt64, totalBytes: UInt64) -> Bool {
        let line: JSON = ["kind": "progress", "done_bytes": JSON(doneBytes), "total_bytes": JSON(totalBytes)]
        return !send(line)
    }

    func event(_ event: JSON) -> Bool { !send(["kind": "event", "event": event]) }

    func close() { socket.shutDown() }

    @discardableResult
    func send(_ failure: ControlFailure) -> Bool {
        send(["kind": "error", "code": .integer(Int64(failure.code)), "message": .string(failure.message)])
    }

    func send(_ answer: ControlAnswer) -> Bool {
        switch answer {
        case .value(let value): return send(["kind": "result", "value": value])
        case .data(let buffer, let count):
            invariant(count <= controlDataLimit, "\(count) bytes in one answer")
            guard send(["kind": "data", "length": JSON(count)]) else { return false }
            return send(UnsafeRawBufferPointer(rebasing: buffer.readable[0..<count]))
        }
    }

    private func send(_ line: JSON) -> Bool {
        let bytes = Array((line.description + "\n").utf8)
        if bytes.count > controlLineLimit {
            return send(ControlFailure(code: 1, message: "the answer is longer than a control line may be"))
        }
        return bytes.withUnsafeBytes { send($0) }
    }

    private func send(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if isBroken.withLock({ $0 }) { return false }
        do {
            try socket.write(bytes)
            return true
        } catch {
            isBroken.withLock { $0 = true }
            return false
        }
    }
}
