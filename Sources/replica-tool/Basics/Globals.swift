import ArgumentParser
import Glibc
import HostIO
import Primitives

/// The flags that every verb has. They may stand before the verb too.
struct Globals: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("How results are printed: human or json.", valueName: "human|json"))
    var output: String?
    @Flag(name: .long, help: "The same as --output json.")
    var json = false
    @Flag(name: .shortAndLong, help: "Print results and errors only.")
    var quiet = false
    @Flag(name: .shortAndLong, help: "Say more of what is done.")
    var verbose = false
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Show how far long work is; SIGUSR1 prints one line in any case.", valueName: "auto|always|never"))
    var progress: String?
    @Flag(name: .shortAndLong, help: "Answer every question with yes.")
    var yes = false
    @Flag(name: [.customShort("n"), .long], help: "Check everything and say what would be done, but do nothing.")
    var dryRun = false
    @Option(
        name: .long, help: ArgumentHelp("Read the global options from FILE: lines of name=value.", valueName: "file"))
    var config: String?

    /// As if the words stood on a command line. They are ours, so they are right.
    static func parsed(_ words: [String]) -> Globals {
        do {
            return try parse(words)
        } catch {
            invariantFailed("the global options \(words) are not understood: \(error)")
        }
    }
}

/// The global options, decided: the command line goes before REPLICA_TOOL_* variables, and these before the file.
struct Settings: Sendable, Hashable {
    enum Progress: String, Sendable { case auto, always, never }

    var isJSON = false
    var isQuiet = false
    var isVerbose = false
    var progress = Progress.auto
    var assumesYes = false
    var isDryRun = false

    static let names = ["output", "json", "quiet", "verbose", "progress", "yes", "dry-run"]

    init() {}

    /// - Throws: a value that an option does not have, and where it was found.
    init(_ globals: Globals, environment: [String: String]) throws(ToolError) {
        func variable(_ name: String) -> String {
            "REPLICA_TOOL_" + String(name.uppercased().map { $0 == "-" ? "_" : $0 })
        }
        let file = globals.config ?? environment[variable("config")].flatMap { $0.isEmpty ? nil : $0 }
        if let file { try apply(file: file) }
        for name in Settings.names {
            if let value = environment[variable(name)], !value.isEmpty {
                try set(name, value, source: variable(name))
            }
        }
        if let output = globals.output { try set("output", output, source: "--output") }
        if globals.json { isJSON = true }
        if let progress = globals.progress { try set("progress", progress, source: "--progress") }
        if globals.quiet { isQuiet = true }
        if globals.verbose { isVerbose = true }
        if globals.yes { assumesYes = true }
        if globals.dryRun { isDryRun = true }
    }

    private mutating func apply(file: String) throws(ToolError) {
        guard exists(file) else { throw ToolError(.usage, "the configuration file \(printable(file)) does not exist") }
        guard let text = readSmallFile(file) else {
            throw ToolError(.usage, "cannot read the configuration file \(printable(file)): \(errorText(errno))")
        }
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = line.trimmed
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let sign = line.firstIndex(of: "=") else {
                throw ToolError(.usage, "\(printable(file)), line \(index + 1): '\(printable(line))' is not name=value")
            }
            let name = Substring(line[..<sign]).trimmed
            let value = Substring(line[line.index(after: sign)...]).trimmed
            try set(name, value, source: "\(printable(file)), line \(index + 1)")
        }
    }

    private mutating func set(_ name: String, _ value: String, source: String) throws(ToolError) {
        switch name {
        case "output":
            guard ["human", "json"].contains(value) else { throw wrong(value, "human or json", source) }
            isJSON = value == "json"
        case "progress":
            guard let value = Progress(rawValue: value) else { throw wrong(value, "auto, always or never", source) }
            progress = value
        case "json": isJSON = try flag(value, source) || isJSON
        case "quiet": isQuiet = try flag(value, source)
        case "verbose": isVerbose = try flag(value, source)
        case "yes": assumesYes = try flag(value, source)
        case "dry-run": isDryRun = try flag(value, source)
        default:
            let known = Settings.names.joined(separator: ", ")
            throw ToolError(.usage, "\(source): no option '\(printable(name))' is known: there are \(known)")
        }
    }

    private func flag(_ value: String, _ source: String) throws(ToolError) -> Bool {
        switch value {
        case "1", "true", "yes", "on": return true
        case "0", "false", "no", "off": return false
        default: throw wrong(value, "true or false", source)
        }
    }

    private func wrong(_ value: String, _ right: String, _ source: String) -> ToolError {
        ToolError(.usage, "\(source): '\(printable(value))' is not possible: write \(right)")
    }

    /// Every REPLICA_TOOL_* variable of this process.
    static func environment() -> [String: String] {
        var result: [String: String] = [:]
        for name in names + ["config"] {
            let variable = "REPLICA_TOOL_" + String(name.uppercased().map { $0 == "-" ? "_" : $0 })
            if let value = getenv(variable) { result[variable] = String(cString: value) }
        }
        return result
    }
}

extension Substring {
    var trimmed: String {
        var text = self
        while let first = text.first, first.isWhitespace { text.removeFirst() }
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return String(text)
    }
}
