import CEndToEnd
import Foundation

/// How a command ended, and what it said.
struct CommandResult: CustomStringConvertible {
    var arguments: [String]
    /// The exit code, or 1000 and the signal's number.
    var code: Int32
    var output: String
    var errors: String

    var succeeded: Bool { code == 0 }
    /// The lines on stderr that are not empty.
    var errorLines: [Substring] { errors.split(separator: "\n") }

    var description: String {
        "`\(arguments.joined(separator: " "))` ended with \(code)\n\(output.suffix(4000))\(errors.suffix(4000))"
    }
}

/// A step of a test that should have worked did not.
struct HarnessError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// A program that runs beside the test. It is in a process group of its own, so that `kill` reaches its children too.
///
/// Its output goes to files, never to a pipe: a daemon that keeps an inherited descriptor must not hold the test.
final class Running {
    let arguments: [String]
    let pid: pid_t
    private let outputPath: String
    private let errorsPath: String
    private var isOver = false

    /// - Parameter errorsTo: a descriptor that gets what it writes to stderr, instead of a file.
    init(
        _ arguments: [String], in scratch: Scratch, folder: String? = nil, environment: [String: String] = [:],
        errorsTo: Int32? = nil
    ) throws {
        self.arguments = arguments
        outputPath = scratch.newPath("out")
        errorsPath = scratch.newPath("err")
        let out = open(outputPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        let err = open(errorsPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        defer {
            close(out)
            close(err)
        }
        // The same surroundings on every machine: no colours, no settings of the person who runs the tests.
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("REPLICA_TOOL") }
        for (name, value) in ["LC_ALL": "C", "TZ": "UTC", "NO_COLOR": "1", "HOME": scratch.path] {
            variables[name] = value
        }
        if let path = variables["PATH"], !path.contains("/sbin") { variables["PATH"] = path + ":/usr/sbin:/sbin" }
        for (name, value) in environment { variables[name] = value }
        var words = arguments.map { strdup($0) } + [nil]
        var settings = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for word in words + settings { free(word) } }
        var child: pid_t = 0
        let code = ce_spawn(&child, &words, &settings, folder, out, errorsTo ?? err)
        guard code == 0 else { throw HarnessError("\(arguments[0]): \(String(cString: strerror(-code)))") }
        pid = child
    }

    /// Waits until it ends by itself; after `seconds` it is killed, which shows as code 1009.
    func wait(seconds: Int = 120) -> CommandResult {
        if ce_wait_gone(pid, Int32(seconds * 1000)) != 1 { kill() }
        return end()
    }

    /// Kills it and its children, and waits for the end.
    @discardableResult
    func stop() -> CommandResult {
        if !isOver { kill() }
        return end()
    }

    func signal(_ number: Int32) { _ = Foundation.kill(pid, number) }
    private func kill() { _ = Foundation.kill(-pid, SIGKILL) }

    /// What it has written up to now.
    func outputSoFar() -> String { text(outputPath) }

    private func end() -> CommandResult {
        let code = isOver ? -1 : ce_wait(pid)
        isOver = true
        return CommandResult(arguments: arguments, code: code, output: text(outputPath), errors: text(errorsPath))
    }

    private func text(_ path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }
}

extension Scratch {
    /// Runs a command to its end.
    func run(
        _ arguments: String..., seconds: Int = 120, folder: String? = nil, environment: [String: String] = [:]
    ) throws -> CommandResult {
        try Running(arguments, in: self, folder: folder, environment: environment).wait(seconds: seconds)
    }

    /// Runs a command that must succeed, and gives what it printed.
    @discardableResult
    func must(_ arguments: String..., seconds: Int = 120, folder: String? = nil) throws -> String {
        let result = try Running(arguments, in: self, folder: folder).wait(seconds: seconds)
        guard result.succeeded else { throw HarnessError(result.description) }
        return result.output
    }
}
