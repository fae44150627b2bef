using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging;

namespace ShardForge.Tests.Cluster;

/// <summary>Keeps what the nodes of a test log, to be printed where it fails.</summary>
internal sealed class TestLog : ILoggerFactory
{
    private readonly ConcurrentQueue<string> _lines = new();
    private readonly long _started = Stopwatch.GetTimestamp();

    public void Write(string line) => _lines.Enqueue(string.Create(CultureInfo.InvariantCulture, $"{Stopwatch.GetElapsedTime(_started).TotalMilliseconds,8:0} {line}"));

    public void Print()
    {
        foreach (string line in _lines)
            TestContext.Out.WriteLine(line);
    }

    public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public void Dispose()
    {
    }

    private sealed class Logger(TestLog log, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
                log.Write($"{logLevel.ToString()[..4]} {category.Replace("ShardForge.", "", StringComparison.Ordinal)} {eventId.Id}: {formatter(state, exception)}{(exception is null ? "" : $" <- {exception.GetType().Name}: {exception.Message}")}");
        }
    }
}
