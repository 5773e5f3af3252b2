//! Objects in memory behind the interface of s3s: versions, uploads in parts and pages as S3 describes them.
//! It must never be more lenient than S3 where a client could lean on it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use s3s::dto::*;
use s3s::{Body, S3, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

/// What S3 shows on one page.
const PAGE_NAMES: usize = 1000;
/// The smallest part that is not the last.
const PART_MIN_BYTES: usize = 5 << 20;

#[derive(Debug)]
struct Version {
    id: String,
    /// Nothing for a delete marker.
    content: Option<Bytes>,
    storage_class: Option<String>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    begun: SystemTime,
    storage_class: Option<String>,
    parts: BTreeMap<i32, Bytes>,
}

#[derive(Debug, Default)]
struct Bucket {
    /// By key; the newest version last.
    objects: BTreeMap<String, Vec<Version>>,
    uploads: BTreeMap<String, Upload>,
}

impl Bucket {
    fn current(&self, key: &str) -> Option<&Bytes> {
        self.objects.get(key)?.last()?.content.as_ref()
    }
}

#[derive(Debug, Default)]
struct State {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    page_names: AtomicUsize,
    versions: AtomicU64,
    keeps_versions: Mutex<Option<bool>>,
    ignores_conditions: AtomicBool,
}

/// All buckets. Clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Store(Arc<State>);

impl Store {
    pub(super) fn make_bucket(&self, name: &str) {
        self.buckets().entry(name.to_owned()).or_default();
    }

    pub(super) fn limit_pages(&self, names: usize) {
        self.0.page_names.store(names, Ordering::Relaxed);
    }

    pub(super) fn keep_versions(&self, locked: bool) {
        *lock(&self.0.keeps_versions) = Some(locked);
    }

    pub(super) fn ignore_conditions(&self) {
        self.0.ignores_conditions.store(true, Ordering::Relaxed);
    }

    pub(super) fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let buckets = self.buckets();
        let bucket = &buckets[bucket];
        let current = bucket.objects.keys().filter_map(|key| {
            let content = bucket.current(key)?;
            Some((key.clone(), content.to_vec()))
        });
        current.collect()
    }

    pub(super) fn uploads(&self, bucket: &str) -> usize {
        self.buckets()[bucket].uploads.len()
    }

    pub(super) fn age_uploads(&self, bucket: &str, by: Duration) {
        let mut buckets = self.buckets();
        let bucket = buckets.get_mut(bucket).expect("the bucket");
        for upload in bucket.uploads.values_mut() {
            upload.begun -= by;
        }
    }

    pub(super) fn put(&self, bucket: &str, key: &str, content: Vec<u8>) {
        self.insert(bucket, key, Some(content.into()), None, None)
            .expect("the bucket");
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        lock(&self.0.buckets)
    }

    fn with<T>(&self, bucket: &str, work: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut buckets = self.buckets();
        let bucket = buckets.get_mut(bucket);
        work(bucket.ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))?)
    }

    /// Puts a version on top and returns its ID where versions are kept.
    fn insert(
        &self,
        bucket: &str,
        key: &str,
        content: Option<Bytes>,
        storage_class: Option<String>,
        condition: Option<IfNoneMatch>,
    ) -> S3Result<Option<String>> {
        let is_conditional =
            condition.is_some() && !self.0.ignores_conditions.load(Ordering::Relaxed);
        let keeps = lock(&self.0.keeps_versions).is_some();
        let number = self.0.versions.fetch_add(1, Ordering::Relaxed);
        let id = match keeps {
            true => format!("version{number}"),
            false => "null".to_owned(),
        };
        self.with(bucket, |bucket| {
            if is_conditional && bucket.current(key).is_some() {
                return Err(s3_error!(
                    PreconditionFailed,
                    "At least one of the pre-conditions you specified did not hold"
                ));
            }
            let versions = bucket.objects.entry(key.to_owned()).or_default();
            if !keeps {
                versions.clear();
            }
            if keeps || content.is_some() {
                versions.push(Version {
                    id: id.clone(),
                    content,
                    storage_class,
                });
            }
            if versions.is_empty() {
                bucket.objects.remove(key);
            }
            Ok(keeps.then_some(id))
        })
    }

    fn content(&self, bucket: &str, key: &str) -> S3Result<(Bytes, Option<String>)> {
        self.with(bucket, |bucket| {
            let newest = bucket.objects.get(key).and_then(|versions| versions.last());
            newest
                .and_then(|newest| Some((newest.content.clone()?, newest.storage_class.clone())))
                .ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist"))
        })
    }

    fn page_names(&self, asked: Option<i32>) -> usize {
        let limit = match self.0.page_names.load(Ordering::Relaxed) {
            0 => PAGE_NAMES,
            limit => limit,
        };
        let asked = asked.and_then(|asked| usize::try_from(asked).ok());
        asked.map_or(limit, |asked| asked.min(limit))
    }

    /// The objects after a key, and whether there are more.
    fn page(
        &self,
        bucket: &str,
        prefix: Option<&str>,
        after: Option<&str>,
        names: usize,
    ) -> S3Result<(Vec<Object>, bool)> {
        let prefix = prefix.unwrap_or_default();
        self.with(bucket, |bucket| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let range = bucket.objects.range::<str, _>((from, Bound::Unbounded));
            let current = range.filter_map(|(key, versions)| {
                let content = versions.last()?.content.as_ref()?;
                key.starts_with(prefix).then(|| Object {
                    key: Some(key.clone()),
                    size: Some(content.len() as i64),
                    last_modified: Some(Timestamp::from(SystemTime::now())),
                    ..Object::default()
                })
            });
            let mut found: Vec<Object> = current.take(names + 1).collect();
            let has_more = found.len() > names;
            found.truncate(names);
            Ok((found, has_more))
        })
    }
}

/// A key as it stands in a listing; encoded, a blank is a plus.
fn shown(key: &str, encoding: Option<&EncodingType>) -> String {
    let Some(_) = encoding else {
        return key.to_owned();
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./*".contains(&byte);
    let signs = key.bytes().map(|byte| match byte {
        b' ' => "+".to_owned(),
        byte if is_plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    signs.collect()
}

fn show_all(objects: &mut [Object], encoding: Option<&EncodingType>) {
    for object in objects {
        object.key = object.key.take().map(|key| shown(&key, encoding));
    }
}

async fn collected(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    let collected = Body::from(body).collect().await;
    // The stream fails when its content has another hash than was signed.
    let collected = collected.map_err(|error| {
        let mut mismatch = s3_error!(BadDigest, "{error}");
        mismatch.set_code(S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()));
        mismatch.set_status_code(hyper::StatusCode::BAD_REQUEST);
        mismatch
    })?;
    Ok(collected.to_bytes())
}

fn etag(content: &[u8]) -> ETag {
    ETag::Strong(lifeboat_format::Id::of(content).to_string())
}

#[async_trait::async_trait]
impl S3 for Store {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = request.input.bucket;
        if self.buckets().contains_key(&name) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        self.make_bucket(&name);
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.with(&request.input.bucket, |_| Ok(()))?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.with(&request.input.bucket, |_| Ok(()))?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let content = collected(input.body).await?;
        let e_tag = Some(etag(&content));
        let class = input.storage_class.map(|class| class.as_str().to_owned());
        let condition = input.if_none_match;
        let version_id = self.insert(&input.bucket, &input.key, Some(content), class, condition)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag,
            version_id,
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (whole, class) = self.content(&input.bucket, &input.key)?;
        let size_bytes = whole.len() as u64;
        let (content, content_range) = match input.range {
            None => (whole.clone(), None),
            Some(range) => {
                let range = range.check(size_bytes).map_err(|_| {
                    let mut error = s3_error!(InvalidRange, "The range is not satisfiable");
                    let value = format!("bytes */{size_bytes}");
                    let mut headers = hyper::HeaderMap::new();
                    headers.insert("content-range", value.parse().expect("a header"));
                    error.set_headers(headers);
                    error
                })?;
                let told = format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1);
                let content = whole.slice(range.start as usize..range.end as usize);
                (content, Some(told))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(content.len() as i64),
            content_range,
            e_tag: Some(etag(&whole)),
            storage_class: class.map(StorageClass::from),
            body: Some(StreamingBlob::from(Body::from(content))),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let (content, class) = self.content(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(content.len() as i64),
            e_tag: Some(etag(&content)),
            storage_class: class.map(StorageClass::from),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let Some(id) = input.version_id else {
            let version_id = self.insert(&input.bucket, &input.key, None, None, None)?;
            return Ok(S3Response::new(DeleteObjectOutput {
                delete_marker: version_id.is_some().then_some(true),
                version_id,
                ..DeleteObjectOutput::default()
            }));
        };
        let is_locked = *lock(&self.0.keeps_versions) == Some(true);
        self.with(&input.bucket, |bucket| {
            let Some(versions) = bucket.objects.get_mut(&input.key) else {
                return Ok(());
            };
            let is_marker = |version: &Version| version.id == id && version.content.is_none();
            if is_locked && !versions.iter().any(is_marker) {
                return Err(s3_error!(
                    AccessDenied,
                    "Access Denied because object protected by object lock"
                ));
            }
            versions.retain(|version| version.id != id);
            if versions.is_empty() {
                bucket.objects.remove(&input.key);
            }
            Ok(())
        })?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let names = self.page_names(input.max_keys);
        let (mut contents, has_more) = self.page(
            &input.bucket,
            input.prefix.as_deref(),
            input.marker.as_deref(),
            names,
        )?;
        show_all(&mut contents, input.encoding_type.as_ref());
        // As S3: without a delimiter, the last key is the marker and is not said again.
        Ok(S3Response::new(ListObjectsOutput {
            is_truncated: Some(has_more),
            contents: Some(contents),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let names = self.page_names(input.max_keys);
        // The token is the last key behind a mark with signs that a URL has to encode.
        let token = input.continuation_token.as_deref();
        let after = token
            .map(|token| {
                let key = token.strip_prefix("+/=&");
                key.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token is not ours"))
            })
            .transpose()?;
        let (mut contents, has_more) =
            self.page(&input.bucket, input.prefix.as_deref(), after, names)?;
        let last = contents.last().and_then(|object| object.key.clone());
        show_all(&mut contents, input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsV2Output {
            is_truncated: Some(has_more),
            next_continuation_token: last.filter(|_| has_more).map(|key| format!("+/=&{key}")),
            key_count: Some(contents.len() as i32),
            contents: Some(contents),
            encoding_type: input.encoding_type,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let names = self.page_names(input.max_keys);
        self.with(&input.bucket, |bucket| {
            let of_prefix = bucket
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix));
            let all = of_prefix.flat_map(|(key, versions)| {
                let newest_first = versions.iter().rev();
                newest_first.map(move |version| (key, version))
            });
            let marker = input.key_marker.zip(input.version_id_marker);
            let mut all: Vec<_> = all.collect();
            if let Some((key, id)) = marker {
                let at = all
                    .iter()
                    .position(|(of, version)| **of == key && version.id == id);
                all.drain(..at.map_or(0, |at| at + 1));
            }
            let has_more = all.len() > names;
            all.truncate(names);
            let last = all.last().filter(|_| has_more);
            let mut output = ListObjectVersionsOutput {
                is_truncated: Some(has_more),
                next_key_marker: last.map(|(key, _)| shown(key, input.encoding_type.as_ref())),
                next_version_id_marker: last.map(|(_, version)| version.id.clone()),
                encoding_type: input.encoding_type,
                ..ListObjectVersionsOutput::default()
            };
            for (key, version) in all {
                let key = Some(shown(key, output.encoding_type.as_ref()));
                let version_id = Some(version.id.clone());
                match &version.content {
                    Some(content) => {
                        output.versions.get_or_insert_default().push(ObjectVersion {
                            key,
                            version_id,
                            size: Some(content.len() as i64),
                            ..ObjectVersion::default()
                        });
                    }
                    None => {
                        let markers = output.delete_markers.get_or_insert_default();
                        markers.push(DeleteMarkerEntry {
                            key,
                            version_id,
                            ..DeleteMarkerEntry::default()
                        });
                    }
                }
            }
            Ok(S3Response::new(output))
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let number = self.0.versions.fetch_add(1, Ordering::Relaxed);
        let id = format!("upload/{number}+&");
        let upload = Upload {
            key: input.key,
            begun: SystemTime::now(),
            storage_class: input.storage_class.map(|class| class.as_str().to_owned()),
            parts: BTreeMap::new(),
        };
        self.with(&input.bucket, |bucket| {
            bucket.uploads.insert(id.clone(), upload);
            Ok(())
        })?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let content = collected(input.body).await?;
        let e_tag = Some(etag(&content));
        self.with(&input.bucket, |bucket| {
            let upload = bucket.uploads.get_mut(&input.upload_id);
            let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
            upload.parts.insert(input.part_number, content);
            Ok(())
        })?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            ..UploadPartOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let wanted = input.multipart_upload.and_then(|upload| upload.parts);
        let wanted = wanted.unwrap_or_default();
        let (content, class) = self.with(&input.bucket, |bucket| {
            let upload = bucket.uploads.get(&input.upload_id);
            let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
            let mut content = Vec::new();
            let mut before = 0;
            for (index, part) in wanted.iter().enumerate() {
                let number = part.part_number.unwrap_or_default();
                if number <= before {
                    return Err(s3_error!(InvalidPartOrder));
                }
                before = number;
                let data = upload.parts.get(&number);
                let data = data.filter(|data| part.e_tag.as_ref() == Some(&etag(data)));
                let data = data.ok_or_else(|| s3_error!(InvalidPart))?;
                if data.len() < PART_MIN_BYTES && index + 1 < wanted.len() {
                    return Err(s3_error!(EntityTooSmall));
                }
                content.extend_from_slice(data);
            }
            let class = upload.storage_class.clone();
            bucket.uploads.remove(&input.upload_id);
            Ok((content, class))
        })?;
        let e_tag = Some(etag(&content));
        let content = Some(content.into());
        let condition = input.if_none_match;
        let version_id = self.insert(&input.bucket, &input.key, content, class, condition)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            e_tag,
            version_id,
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.with(&input.bucket, |bucket| {
            let removed = bucket.uploads.remove(&input.upload_id);
            removed.ok_or_else(|| s3_error!(NoSuchUpload))
        })?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        let names = self.page_names(input.max_uploads);
        self.with(&input.bucket, |bucket| {
            let mut all: Vec<(&str, &String, SystemTime)> = bucket
                .uploads
                .iter()
                .filter(|(_, upload)| upload.key.starts_with(&prefix))
                .map(|(id, upload)| (upload.key.as_str(), id, upload.begun))
                .collect();
            all.sort();
            if let Some(key) = &input.key_marker {
                let id = input.upload_id_marker.clone().unwrap_or_default();
                all.retain(|upload| (upload.0, upload.1) > (key.as_str(), &id));
            }
            let has_more = all.len() > names;
            all.truncate(names);
            let last = all.last().filter(|_| has_more);
            let uploads = all.iter().map(|(key, id, begun)| MultipartUpload {
                key: Some(shown(key, input.encoding_type.as_ref())),
                upload_id: Some((*id).clone()),
                initiated: Some(Timestamp::from(*begun)),
                ..MultipartUpload::default()
            });
            Ok(S3Response::new(ListMultipartUploadsOutput {
                is_truncated: Some(has_more),
                next_key_marker: last.map(|upload| shown(upload.0, input.encoding_type.as_ref())),
                next_upload_id_marker: last.map(|upload| upload.1.clone()),
                uploads: Some(uploads.collect()),
                encoding_type: input.encoding_type,
                ..ListMultipartUploadsOutput::default()
            }))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
