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
        TaskCompletionSource written = NewSignal();
        lock (_gate)
        {
            ThrowIfDisposed();
            ThrowIfFailed();
            LsmVersion version = _versions.Current;
            Invariant.Require(version.TryAddReference());
            if (!StartJobLocked(() => RunCheckpoint(directory, version, written, cancellationToken), urgent: true))
            {
                version.Release();
                throw new ObjectDisposedException(nameof(IStorageEngine));
            }
        }

        // Not cancelled here: the job notices, and removes what it wrote before this task ends.
        await written.Task.ConfigureAwait(false);
    }

    private void RunCheckpoint(string directory, LsmVersion version, TaskCompletionSource written, CancellationToken cancellationToken)
    {
        try
        {
            StorageFiles.FillCheckpoint(_fileSystem, directory, () => WriteCheckpoint(directory, version, cancellationToken));
            written.TrySetResult();
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            written.TrySetCanceled(cancellationToken);
        }
        catch (OperationCanceledException)
        {
            written.TrySetException(new ObjectDisposedException(nameof(IStorageEngine)));
        }
        catch (Exception error)
        {
            // Of the copy only: the engine itself is as it was.
            written.TrySetException(DiskErrors.IsDiskFull(error) ? Refused(error) : error);
        }
        finally
        {
            version.Release();
            EndJob();
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
