import Control
import Glibc
import HostIO
import Primitives

/// A directory of a test's own, removed with it.
final class Scratch: Sendable {
    let path: String

    init() {
        var template = Array(("/tmp/control-test." + String(repeating: "X", count: 6)).utf8CString)
        path = template.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, mkdtemp(base) != nil else { return "/nonexistent" }
            return String(cString: base)
        }
    }

    deinit {
        guard let stream = opendir(path) else { return }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            unlink(path + "/" + name)
        }
        closedir(stream)
        rmdir(path)
    }
}

/// Answers a few verbs, and tells what it saw.
final class EchoService: ControlService {
    /// `work` was stopped by its client.
    let stopped = Guarded(false)
    /// `wait` is inside.
    let waiting = Guarded(0)
    /// `wait` may go on.
    let released = Guarded(false)

    func newConversation() -> any ControlConversation { Conversation(self) }

    private final class Conversation: ControlConversation {
        private let service: EchoService
        private let count = Guarded(0)
        init(_ service: EchoService) { self.service = service }

        func answer(_ request: ControlRequest, _ channel: any ControlChannel) throws(ControlFailure) -> ControlAnswer {
            let number = count.withLock { count in
                count += 1
                return count
            }
            switch request.verb {
            case "echo": return .value(["arguments": request.arguments, "number": JSON(number)])
            case "data":
                let count = request.arguments["count"]?.int ?? 0
                let buffer = ByteBuffer(count: count)
                for index in 0..<count { buffer.bytes[index] = UInt8(truncatingIfNeeded: index &* 31) }
                return .data(buffer, count: count)
            case "count":
                for index in 0..<5 {
                    if channel.progress(doneBytes: UInt64(index), totalBytes: 5) { break }
                    if channel.event(["index": JSON(index)]) { break }
                }
                return .value("done")
            case "work":
                while !channel.progress(doneBytes: 0, totalBytes: 1) {}
                service.stopped.withLock { $0 = true }
                service.stopped.wakeAll()
                return .value(nil)
            case "wait":
                service.waiting.withLock { $0 += 1 }
                service.waiting.wakeAll()
                _ = service.released.wait { $0 ? true : nil }
                return .value("released")
            case "long": return .value(.string(String(repeating: "x", count: controlLineLimit)))
            default: throw ControlFailure(code: 10, message: "no verb \(request.verb)")
            }
        }
    }
}

/// A socket without the client's manners.
final class RawClient {
    let socket: LocalSocket
    private var pending: [UInt8] = []

    init(_ directory: String) throws { socket = try LocalSocket.connect(directory: directory, name: "control.sock") }

    func send(_ text: String) throws { try socket.write(Array(text.utf8)) }
    func send(_ bytes: [UInt8]) throws { try socket.write(bytes) }

    /// The next line; nil at the end of the stream.
    func line() throws -> JSON? {
        let buffer = ByteBuffer(count: 4096)
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = Array(pending[..<end])
                pending.removeSubrange(...end)
                return try JSON(parsing: line)
            }
            let got: Int
            do {
                got = try socket.read(into: buffer.bytes)
            } catch {
                // What was sent after the end of a connection makes the kernel answer with a reset.
                if error.code == ECONNRESET { return nil }
                throw error
            }
            if got == 0 { return nil }
            pending += buffer.readable[0..<got]
        }
    }
}
