using ShardForge.Common;
using ShardForge.Storage.Lsm.Manifest;
using ShardForge.Storage.Lsm.Table;
using ShardForge.Storage.Lsm.Wal;

namespace ShardForge.Storage.Lsm.Verify;

/// <summary>The directory of an engine that is not open: which of its files count, as far as that can be read. Holds its lock.</summary>
internal sealed class ClosedDirectory : IDisposable
{
    private readonly IDisposable _lock;

    private ClosedDirectory(IFileSystem files, string path, IDisposable held)
    {
        Files = files;
        Path = path;
        _lock = held;
    }

    public IFileSystem Files { get; }

    public string Path { get; }

    /// <summary>Whether its values are stored with their expiry.</summary>
    public bool HasExpiry { get; private set; }

    /// <summary>What marker, CURRENT and manifest have that they should not.</summary>
    public List<StorageDamage> Damage { get; } = [];

    /// <summary>Null: no manifest could be read; then nobody knows which files count.</summary>
    public ManifestState? Manifest { get; private set; }

    /// <summary>Where files ended when they were closed; null: unknown.</summary>
    public CleanEnd? Clean { get; private set; }

    /// <summary>The tables that count, by number; all that are there where no manifest says (their summary is null).</summary>
    public List<(int Level, ulong Number, TableSummary? Summary)> Tables { get; } = [];

    /// <summary>The logs that count, ascending.</summary>
    public List<ulong> Logs { get; } = [];

    /// <exception cref="ConfigurationException">Missing, in use, of another engine or of a newer format.</exception>
    public static ClosedDirectory Open(IFileSystem files, string path)
    {
        // Looked at before the lock, since taking that creates a file.
        if (!files.FileExists(System.IO.Path.Combine(path, EngineMarker.FileName)))
            throw new ConfigurationException("DataDirectory", $"{path} has no {EngineMarker.FileName} file, so it is no engine's directory. Nothing was changed.");
        string lockPath = System.IO.Path.Combine(path, EngineMarker.LockFileName);
        IDisposable held = files.TryLock(lockPath)
            ?? throw new ConfigurationException("DataDirectory", $"{path} is in use: an engine or another process holds {lockPath}. Nothing was changed.");
        ClosedDirectory directory = new(files, path, held);
        try
        {
            directory.Read();
            return directory;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    public string TablePath(ulong number) => System.IO.Path.Combine(Path, LsmFiles.TableName(number));

    public string LogPath(ulong number) => System.IO.Path.Combine(Path, LogFormat.FileName(number));

    public void Dispose() => _lock.Dispose();

    private void Read()
    {
        Try(CheckMarker);
        List<(string Path, LsmFileKind Kind, ulong Number)> found = LsmFiles.List(Files, Path);
        ulong? current = null;
        if (!Files.FileExists(System.IO.Path.Combine(Path, CurrentFile.Name)))
            Damage.Add(new(System.IO.Path.Combine(Path, CurrentFile.Name), 0, "it is missing."));
        else
            Try(() => current = CurrentFile.Read(Files, Path));

        // Without CURRENT the newest manifest is the best guess: an older one is deleted once a newer one counts.
        current ??= found.Where(static file => file.Kind == LsmFileKind.Manifest).Select(static file => (ulong?)file.Number).Max();
        if (current is { } number)
            Try(() => Manifest = ManifestState.Read(Files, Path, number));
        Clean = CurrentFile.ReadClosed(Files, Path);
        if (Manifest is { } manifest)
        {
            if (Clean is { } clean && clean.ManifestNumber == manifest.Number && manifest.EndOffset < clean.ManifestEnd)
            {
                Damage.Add(new(System.IO.Path.Combine(Path, ManifestFormat.FileName(manifest.Number)), manifest.EndOffset,
                    $"valid edits end here, and there were {clean.ManifestEnd:N0} bytes when it was closed."));
                Manifest = null;
            }
        }

        ChooseFiles(found);
    }

    private void CheckMarker()
    {
        try
        {
            EngineMarker.Check(Files, Path, LsmEngine.EngineName, LsmEngine.FormatVersion);
        }
        catch (ConfigurationException error) when (error.Setting == "StorageEngine")
        {
            EngineMarker.Check(Files, Path, LsmEngine.ExpiringEngineName, LsmEngine.FormatVersion);
            HasExpiry = true;
        }
    }

    private void ChooseFiles(List<(string Path, LsmFileKind Kind, ulong Number)> found)
    {
        if (Manifest is not null)
            Tables.AddRange(Manifest.Tables.Select(static table => (table.Key.Level, table.Key.Number, (TableSummary?)table.Value)));
        else
            Tables.AddRange(found.Where(static file => file.Kind == LsmFileKind.Table).Select(static file => (0, file.Number, (TableSummary?)null)));
        Tables.Sort(static (left, right) => left.Number.CompareTo(right.Number));
        ulong firstLog = Manifest?.LogNumber ?? 0;
        Logs.AddRange(found.Where(file => file.Kind == LsmFileKind.Log && file.Number >= firstLog).Select(static file => file.Number).Order());
        if (Manifest is not null && Clean is { LogNumber: > 0 } clean && clean.LogNumber >= firstLog && clean.ManifestNumber == Manifest.Number && !Logs.Contains(clean.LogNumber))
            Damage.Add(new(LogPath(clean.LogNumber), 0, "the log is missing; it was there when the engine was closed."));
    }

    private void Try(Action read)
    {
        try
        {
            read();
        }
        catch (CorruptionException error)
        {
            Damage.Add(new(error.Path, error.Offset, error.Message));
        }
    }
}
