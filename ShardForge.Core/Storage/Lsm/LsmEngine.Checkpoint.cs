using ShardForge.Common;
using ShardForge.Storage.Lsm.Manifest;

namespace ShardForge.Storage.Lsm;

/// <summary>A copy by hard links: tables never change, so a second name is a copy.</summary>
/// <remarks>Order: tables, manifest, CURRENT, marker, directory. A crash before the marker leaves a directory that no engine opens.</remarks>
internal sealed partial class LsmEngine
{
    public ValueTask CheckpointAsync(string directory, CancellationToken cancellationToken = default)
    {
        ThrowIfDisposed();
        ArgumentException.ThrowIfNullOrEmpty(directory);
        if (cancellationToken.IsCancellationRequested)
            return ValueTask.FromCanceled(cancellationToken);
        if (_fileSystem.ListFiles(directory).Count > 0 || _fileSystem.ListDirectories(directory).Count > 0)
            throw new ArgumentException($"The directory {directory} of a checkpoint must be absent or empty. Nothing was written.", nameof(directory));
        return new(WriteCheckpointAsync(directory, cancellationToken));
    }

    private async Task WriteCheckpointAsync(string directory, CancellationToken cancellationToken)
    {
        await FlushMemtableAsync(cancellationToken).ConfigureAwait(false);
        LsmVersion version;
        lock (_gate)
        {
            ThrowIfDisposed();
            ThrowIfFailed();
            version = _versions.Current;
            Invariant.Require(version.TryAddReference());
        }

        try
        {
            // On a thread of its own: where there are no hard links it copies everything, and no flush may wait for that. Not cancelled here: the thread notices, and
            // removes what it wrote before the task ends.
            await _threads.RunAsync($"{_context.Name} checkpoint", () => StorageFiles.FillCheckpoint(_fileSystem, directory, () => WriteCheckpoint(directory, version, cancellationToken))).ConfigureAwait(false);
        }
        catch (OperationCanceledException error) when (!cancellationToken.IsCancellationRequested)
        {
            throw new ObjectDisposedException($"{_context.Name} was disposed during the checkpoint; nothing is left of it.", error);
        }
        catch (IOException error) when (DiskErrors.IsDiskFull(error))
        {
            // Of the copy only: the engine itself is as it was.
            throw Refused(error);
        }
        finally
        {
            version.Release();
        }
    }

    private void WriteCheckpoint(string directory, LsmVersion version, CancellationToken cancellationToken)
    {
        foreach (TableFile[] level in version.Levels)
        {
            foreach (TableFile table in level)
            {
                cancellationToken.ThrowIfCancellationRequested();
                _stop.Token.ThrowIfCancellationRequested();
                LinkOrCopy(_files.TablePath(table.Number), Path.Combine(directory, LsmFiles.TableName(table.Number)), cancellationToken);
            }
        }

        ulong number = _versions.NewFileNumber();
        string manifest = Path.Combine(directory, ManifestFormat.FileName(number));
        ManifestWriter.Create(_fileSystem, manifest, number, _versions.Snapshot(version, _versions.LastSequence, logNumber: number)).Dispose();
        CurrentFile.Write(_fileSystem, directory, number);
        EngineMarker.Write(_fileSystem, directory, MarkerName, FormatVersion);
    }

    private void LinkOrCopy(string source, string target, CancellationToken cancellationToken)
    {
        try
        {
            _fileSystem.HardLink(source, target);
            return;
        }
        catch (IOException) when (!_fileSystem.FileExists(target) && _fileSystem.FileExists(source))
        {
            // Another volume, or a file system without links: bytes instead of a name.
            using IFile from = _fileSystem.Open(source, FileOpenMode.Read);
            using IFile to = _fileSystem.Open(target, FileOpenMode.CreateNew);
            byte[] buffer = new byte[256 * 1024];
            for (long offset = 0; ;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                int read = from.Read(buffer, offset);
                if (read == 0)
                    break;
                to.Write(buffer.AsSpan(0, read), offset);
                offset += read;
            }

            to.Flush();
        }
    }
}
