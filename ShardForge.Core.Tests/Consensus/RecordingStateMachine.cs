using System.Text;
using ShardForge.Common;
using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

/// <summary>Keeps what it is fed, and checks that it is fed as promised. Its durable state is what <see cref="MakeDurable"/> saw last.</summary>
internal sealed class RecordingStateMachine(IFileSystem files, string directory) : IRaftStateMachine
{
    private readonly Lock _gate = new();
    private readonly List<CommittedEntry> _applied = [];
    private readonly List<RaftStatus> _statuses = [];
    private LogIndex _base;                 // covered by a snapshot: these entries were never seen here
    private List<(long Index, string Text)> _baseCommands = [];
    private (LogIndex Base, List<(long, string)> BaseCommands, CommittedEntry[] Applied) _durable = (default, [], []);
    private int _active;

    public LogIndex RecoveredIndex { get; private set; }

    /// <summary>Set: it is awaited by each apply.</summary>
    public Func<ReadOnlyMemory<CommittedEntry>, ValueTask>? OnApply { get; set; }

    public int SnapshotsInstalled { get; private set; }

    public int SnapshotsWritten { get; private set; }

    public int ApplyCalls { get; private set; }

    public IReadOnlyList<CommittedEntry> Applied
    {
        get
        {
            lock (_gate)
                return [.. _applied];
        }
    }

    public IReadOnlyList<RaftStatus> Statuses
    {
        get
        {
            lock (_gate)
                return [.. _statuses];
        }
    }

    public LogIndex AppliedIndex
    {
        get
        {
            lock (_gate)
                return new(_base.Value + _applied.Count);
        }
    }

    /// <summary>Index and text of every command, in order, those of a snapshot too.</summary>
    public IReadOnlyList<(long Index, string Text)> Commands
    {
        get
        {
            lock (_gate)
                return [.. CommandsLocked()];
        }
    }

    public CommittedEntry? EntryAt(LogIndex index)
    {
        lock (_gate)
        {
            long at = index.Value - _base.Value - 1;
            return at >= 0 && at < _applied.Count ? _applied[(int)at] : null;
        }
    }

    public async ValueTask ApplyAsync(ReadOnlyMemory<CommittedEntry> entries, CancellationToken cancellationToken)
    {
        Enter();
        try
        {
            if (OnApply is { } onApply)
                await onApply(entries);
            lock (_gate)
            {
                ApplyCalls++;
                foreach (CommittedEntry entry in entries.Span)
                {
                    Invariant.Require(entry.Index.Value == _base.Value + _applied.Count + 1);
                    _applied.Add(entry with { Payload = entry.Payload.ToArray() });
                }
            }
        }
        finally
        {
            Leave();
        }
    }

    public void OnStatusChanged(RaftStatus status)
    {
        lock (_gate)
            _statuses.Add(status);
    }

    public ValueTask<LogIndex> WriteSnapshotAsync(string target, CancellationToken cancellationToken)
    {
        Enter();
        try
        {
            lock (_gate)
            {
                SnapshotsWritten++;
                files.CreateDirectory(Path.Combine(target, "deep"));
                string text = string.Join('\n', CommandsLocked().Select(static command => $"{command.Index} {command.Text}"));
                Write(Path.Combine(target, "index"), $"{_base.Value + _applied.Count}");
                Write(Path.Combine(target, "deep", "commands"), text);
                Write(Path.Combine(target, "empty"), "");
                return new(new LogIndex(_base.Value + _applied.Count));
            }
        }
        finally
        {
            Leave();
        }
    }

    public string GetGenerationDirectory(long generation) => Path.Combine(directory, $"{generation}");

    public ValueTask InstallSnapshotAsync(long generation, LogIndex index, CancellationToken cancellationToken)
    {
        Enter();
        try
        {
            lock (_gate)
                LoadLocked(generation, index);
            SnapshotsInstalled++;
            return default;
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>What is applied survives the next crash; returns its index.</summary>
    public LogIndex MakeDurable()
    {
        lock (_gate)
        {
            _durable = (_base, _baseCommands, [.. _applied]);
            return new(_base.Value + _applied.Count);
        }
    }

    /// <summary>What a crash leaves; the generation that the log names counts.</summary>
    public void Recover(long generation)
    {
        lock (_gate)
        {
            _applied.Clear();
            (_base, _baseCommands, CommittedEntry[] applied) = _durable;
            _applied.AddRange(applied);
            string indexFile = Path.Combine(GetGenerationDirectory(generation), "index");
            if (files.FileExists(indexFile) && long.Parse(Read(indexFile)) > _base.Value + _applied.Count)
                LoadLocked(generation, new LogIndex(long.Parse(Read(indexFile))));
            RecoveredIndex = new(_base.Value + _applied.Count);
        }
    }

    private void LoadLocked(long generation, LogIndex index)
    {
        string from = GetGenerationDirectory(generation);
        Invariant.Require(long.Parse(Read(Path.Combine(from, "index"))) == index.Value);
        Invariant.Require(Read(Path.Combine(from, "empty")).Length == 0);
        string text = Read(Path.Combine(from, "deep", "commands"));
        _baseCommands = [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static line => line.Split(' ', 2)).Select(static parts => (long.Parse(parts[0]), parts[1]))];
        _base = index;
        _applied.Clear();
        _durable = (_base, _baseCommands, []);
    }

    private IEnumerable<(long Index, string Text)> CommandsLocked() =>
        _baseCommands.Concat(_applied.Where(static entry => entry.Kind == RaftEntryKind.Command)
            .Select(static entry => (entry.Index.Value, Encoding.UTF8.GetString(entry.Payload.Span))));

    private void Write(string path, string text)
    {
        using IFile file = files.Open(path, FileOpenMode.CreateOrTruncate);
        file.Write(Encoding.UTF8.GetBytes(text), 0);
        file.Flush();
    }

    private string Read(string path)
    {
        using IFile file = files.Open(path, FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(bytes, 0);
        return Encoding.UTF8.GetString(bytes);
    }

    private void Enter() => Invariant.Require(Interlocked.Increment(ref _active) == 1);

    private void Leave() => Interlocked.Decrement(ref _active);
}
