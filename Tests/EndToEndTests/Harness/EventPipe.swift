import Foundation

/// A pipe to wait on for what a process says, instead of asking again and again.
final class EventPipe {
    /// Given to the process as its stderr.
    let writer: Int32
    private let reader: Int32
    private var isOpen = true

    init(in scratch: Scratch) throws {
        let path = scratch.newPath("pipe")
        guard mkfifo(path, 0o600) == 0 else {
            throw HarnessError("\(path): mkfifo: \(String(cString: strerror(errno)))")
        }
        reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        writer = open(path, O_WRONLY | O_CLOEXEC)
        guard reader >= 0, writer >= 0 else { throw HarnessError("\(path): open: \(String(cString: strerror(errno)))") }
        _ = fcntl(reader, F_SETFL, 0)
    }

    deinit {
        close(reader)
        if isOpen { close(writer) }
    }

    /// Returns when the process has written `text`; throws when it ends before.
    func wait(for text: String) throws {
        // Only the process holds the other end from here on, so its death is the end of the pipe.
        if isOpen { close(writer) }
        isOpen = false
        var said = ""
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !said.contains(text) {
            let got = read(reader, &buffer, buffer.count)
            guard got > 0 else { throw HarnessError("the process ended without saying \"\(text)\": \(said)") }
            said += String(decoding: buffer[0..<got], as: UTF8.self)
        }
    }
}
