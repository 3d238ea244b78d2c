// The door to libjpeg-turbo. Its errors jump back into the function that called it, which holds nothing that a jump
// would leak; whoever asked for the picture throws.
#include <espalier/data/image_file.h>
#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>

namespace espalier {

namespace {

constexpr int max_scans = 100;  // of a progressive file, each of which goes over the whole picture

class Decoder {
 public:
  Decoder() {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = give_up;
    errors_.base.emit_message = warned;
    progress_.progress_monitor = watch;
  }
  ~Decoder() { jpeg_destroy_decompress(&info_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  const char* message() const { return errors_.message; }
  const jpeg_decompress_struct& info() const { return info_; }

  // Both return false where message() says why.
  bool read_header(const void* bytes, size_t size) {
    if (setjmp(errors_.back)) return false;
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_mem_src(&info_, static_cast<const unsigned char*>(bytes), static_cast<unsigned long>(size));
    jpeg_read_header(&info_, TRUE);
    return true;
  }
  bool read_rows(uint8_t* out) {
    if (setjmp(errors_.back)) return false;
    info_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = out + size_t(info_.output_scanline) * info_.output_width * 3;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

 private:
  struct Errors {
    jpeg_error_mgr base;  // first, so that libjpeg's pointer to it is one to all
    std::jmp_buf back;
    char message[JMSG_LENGTH_MAX];
  };
  static Errors& errors_of(j_common_ptr info) { return *reinterpret_cast<Errors*>(info->err); }

  [[noreturn]] static void give_up(j_common_ptr info) {
    Errors& e = errors_of(info);
    e.base.format_message(info, e.message);
    std::longjmp(e.back, 1);
  }
  // What libjpeg would only warn of: that it makes up the rest of a file that was cut.
  static void warned(j_common_ptr info, int level) {
    const int code = info->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) give_up(info);
  }
  static void watch(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= max_scans) return;
    Errors& e = errors_of(info);
    std::snprintf(e.message, sizeof e.message, "more than %d scans", max_scans);
    std::longjmp(e.back, 1);
  }

  jpeg_decompress_struct info_{};
  jpeg_progress_mgr progress_{};
  Errors errors_{};
};

}  // namespace

bool has_jpeg() { return true; }

Tensor parse_jpeg(const void* bytes, size_t size, const std::string& name) {
  Decoder decoder;
  const auto damaged = [&] { fail(ErrorKind::data, "[jpeg] ", name, ": ", decoder.message()); };
  if (!decoder.read_header(bytes, size)) damaged();
  const jpeg_decompress_struct& info = decoder.info();
  check_image_size("jpeg", name, info.image_width, info.image_height);
  if (info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK)
    fail(ErrorKind::data, "[jpeg] ", name, " is in the colours of printing (CMYK), expected RGB or grey");
  Tensor rgb = Tensor::empty({1, 3, int64_t(info.image_height), int64_t(info.image_width)}, DType::u8);
  if (!decoder.read_rows(rgb.mutable_data<uint8_t>())) damaged();
  return rgb;
}

}  // namespace espalier
