internal import HostIO
internal import Primitives

/// Cuts what a socket delivers into lines and blocks of known length. One thread uses it.
final class LineReader {
    enum Failure: Error {
        case tooLong
        case deadline
        /// The stream ended in the middle of something.
        case cut
        case io(IOError)
    }

    private let socket: LocalSocket
    private let host: any Host
    private var pending: [UInt8] = []
    private let buffer = ByteBuffer(count: 64 * 1024)

    init(_ socket: LocalSocket, host: any Host) {
        self.socket = socket
        self.host = host
    }

    private func monotonicMs() -> Int64 { Int64(host.monotonicNs() / 1_000_000) }

    /// The next line without its end; nil at the end of the stream.
    /// - Parameter idleMs: how long the first byte may take; -1: for ever.
    /// - Parameter lineMs: how long the whole line may take from its first byte on.
    func line(idleMs: Int32, lineMs: Int32) throws(Failure) -> [UInt8]? {
        var searched = 0
        var deadline: Int64? = pending.isEmpty ? nil : monotonicMs() + Int64(lineMs)
        while true {
            if let end = pending[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                guard end < controlLineLimit else { throw .tooLong }
                let line = Array(pending[..<end])
                pending.removeSubrange(...end)
                return line
            }
            searched = pending.count
            guard pending.count < controlLineLimit else { throw .tooLong }
            let wait = deadline.map { lineMs < 0 ? -1 : Int32(clamping: max(0, $0 - monotonicMs())) } ?? idleMs
            guard socket.waitReadable(milliseconds: wait) else { throw .deadline }
            guard try fill() else {
                if pending.isEmpty { return nil }
                throw .cut
            }
            if deadline == nil { deadline = monotonicMs() + Int64(lineMs) }
        }
    }

    /// Exactly `target.count` bytes.
    func block(into target: UnsafeMutableRawBufferPointer) throws(Failure) {
        let taken = min(pending.count, target.count)
        target.copyBytes(from: pending[..<taken])
        pending.removeSubrange(..<taken)
        var done = taken
        while done < target.count {
            let got: Int
            do {
                got = try socket.read(into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
            } catch {
                throw .io(error)
            }
            if got == 0 { throw .cut }
            done += got
        }
    }

    private func fill() throws(Failure) -> Bool {
        do {
            let got = try socket.read(into: buffer.bytes)
            pending += buffer.readable[0..<got]
            return got > 0
        } catch {
            throw .io(error)
        }
    }
}
