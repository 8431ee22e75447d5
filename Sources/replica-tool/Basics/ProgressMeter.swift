import Glibc
import HostIO
import Primitives

/// Shows how far long work is: a bar on a terminal's standard error, JSON lines with --json, one line on SIGUSR1.
final class ProgressMeter: Sendable {
    private enum Style: Sendable { case none, bar, json }
    private struct State {
        var done: UInt64 = 0
        var total: UInt64 = 0
        var shownNs: UInt64 = 0
        var isBarShown = false
    }

    private let what: String
    private let style: Style
    private let host: any Host
    private let startNs: UInt64
    private let state = Guarded(State())

    /// - Parameter what: the work, for a person: `verify`.
    init(_ what: String, _ context: Context) {
        self.what = what
        host = context.host
        startNs = host.monotonicNs()
        let isWanted =
            switch context.settings.progress {
            case .never: false
            case .always: true
            case .auto: !context.settings.isQuiet && (context.isJSON || isatty(STDERR_FILENO) == 1)
            }
        style = !isWanted ? .none : context.isJSON ? .json : .bar
        Interruption.shared.onStatus { [self] in printLine() }
    }

    /// - Returns: whether to stop: an interrupt came.
    @discardableResult
    func update(done: UInt64, total: UInt64) -> Bool {
        let now = host.monotonicNs()
        let isDue = state.withLock { state -> Bool in
            state.done = done
            state.total = total
            let interval: UInt64 = style == .json ? 1_000_000_000 : 100_000_000
            guard now >= max(state.shownNs, startNs) + interval else { return false }
            state.shownNs = now
            if style == .bar { state.isBarShown = true }
            return true
        }
        if isDue {
            switch style {
            case .none: break
            case .bar: write("\r" + bar(done, total) + "\u{1B}[K")
            case .json: Output.message("status", status(done, total))
            }
        }
        return Interruption.shared.isRequested
    }

    /// Clears the bar.
    func finish() {
        Interruption.shared.onStatus(nil)
        if state.withLock({ $0.isBarShown }) { write("\r\u{1B}[K") }
    }

    private func status(_ done: UInt64, _ total: UInt64) -> JSON {
        let elapsed = Double(host.monotonicNs() - startNs) / 1e9
        let rate = elapsed > 0 ? Double(done) / elapsed : 0
        return [
            "work": .string(what), "done_bytes": JSON(done), "total_bytes": JSON(total),
            "percent_done": .number(total > 0 ? Double(done) / Double(total) : 0),
            "seconds_elapsed": JSON(UInt64(elapsed)),
            "seconds_remaining": rate > 0 && total >= done ? JSON(UInt64(Double(total - done) / rate)) : .null,
        ]
    }

    private func bar(_ done: UInt64, _ total: UInt64) -> String {
        let columns = Processes.terminalColumns(STDERR_FILENO) ?? 80
        let text = line(done, total)
        let width = min(40, columns - text.count - 4)
        guard width >= 10, total > 0 else { return String(text.prefix(columns - 1)) }
        let filled = Int(Double(width) * Double(min(done, total)) / Double(total))
        return "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled) + "] " + text
    }

    private func line(_ done: UInt64, _ total: UInt64) -> String {
        let elapsed = Double(host.monotonicNs() - startNs) / 1e9
        let rate = elapsed > 0.01 ? UInt64(Double(done) / elapsed) : 0
        let percent = total > 0 ? " \(min(100, done * 100 / total))%" : ""
        let left = rate > 0 && total > done ? ", \((total - done) / rate) s left" : ""
        return
            "\(what):\(percent) \(SizeText.human(done)) of \(SizeText.human(total)), \(SizeText.human(rate))/s\(left)"
    }

    private func printLine() {
        let (done, total) = state.withLock { ($0.done, $0.total) }
        write("\n" + line(done, total) + "\n")
    }

    private func write(_ text: String) {
        let bytes = Array(text.utf8)
        _ = Glibc.write(STDERR_FILENO, bytes, bytes.count)
    }
}

/// Runs long work with its meter; an interrupt lets it end at a safe place.
func withProgress<Result>(
    _ what: String, _ context: Context, _ body: (ProgressMeter) throws(ToolError) -> Result
) throws(ToolError) -> Result {
    let meter = ProgressMeter(what, context)
    defer { meter.finish() }
    return try Interruption.shared.critical { () throws(ToolError) in try body(meter) }
}
